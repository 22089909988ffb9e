"""Jackfield serves large language models on any device that has a plugin.

The public names below are imported when they are first used, so that `import jackfield` costs nothing and the command
line answers `--help` without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jackfield.version import __version__

if TYPE_CHECKING:
    from jackfield.async_llm import AsyncLLM
    from jackfield.config.options import EngineOptions as AsyncEngineArgs
    from jackfield.config.options import EngineOptions as EngineArgs
    from jackfield.llm import LLM
    from jackfield.lora_request import LoRARequest
    from jackfield.outputs import CompletionOutput, RequestOutput
    from jackfield.sampling_params import SamplingParams

__all__ = [
    "LLM",
    "AsyncEngineArgs",
    "AsyncLLM",
    "CompletionOutput",
    "EngineArgs",
    "LoRARequest",
    "RequestOutput",
    "SamplingParams",
    "__version__",
]

_PLACES = {
    "LLM": "jackfield.llm:LLM",
    "AsyncLLM": "jackfield.async_llm:AsyncLLM",
    "AsyncEngineArgs": "jackfield.config.options:EngineOptions",  # vLLM's names for the same thing
    "EngineArgs": "jackfield.config.options:EngineOptions",
    "LoRARequest": "jackfield.lora_request:LoRARequest",
    "CompletionOutput": "jackfield.outputs:CompletionOutput",
    "RequestOutput": "jackfield.outputs:RequestOutput",
    "SamplingParams": "jackfield.sampling_params:SamplingParams",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'jackfield' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
