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
    from jackfield.llm import LLM
    from jackfield.outputs import CompletionOutput, RequestOutput
    from jackfield.sampling_params import SamplingParams

__all__ = ["LLM", "AsyncLLM", "CompletionOutput", "RequestOutput", "SamplingParams", "__version__"]

_MODULES = {
    "LLM": "jackfield.llm",
    "AsyncLLM": "jackfield.async_llm",
    "CompletionOutput": "jackfield.outputs",
    "RequestOutput": "jackfield.outputs",
    "SamplingParams": "jackfield.sampling_params",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'jackfield' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
