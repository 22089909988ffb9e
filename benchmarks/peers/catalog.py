"""Which engines there are, in which precisions, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

CONTEXT = 4096  # longest sequence of any measure
SEQUENCES = 64  # most sequences at once
POOL_TOKENS = {"start": 4352, "decode": 4352, "prefill": 4352, "batch": 8192, "mix": 32_768}  # that a cache must hold
PREFIX_POOL_TOKENS = 40_960  # 32 prompts of 1,088, not shared, and what warming up left behind


class Engine(NamedTuple):
    """One column of the comparison. `files` names what it loads, see `models.py`."""

    name: str
    peer: str  # whose installation runs it
    adapter: str  # the class in `adapters.py`
    bits: int  # of a weight: 16, 8 or 4; engines of one size are compared
    files: str
    options: Mapping[str, Any] = {}

    @staticmethod
    def pool_tokens(measure: str) -> int:
        """Room in the cache, the same for everyone."""
        return POOL_TOKENS.get(measure, PREFIX_POOL_TOKENS)

    def options_for(self, measure: str) -> dict[str, Any]:
        """Some engines share prefixes only when told to, and are faster without where there is nothing to share."""
        return {**self.options, "share_prefixes": measure.startswith("prefix")}


PEERS = ("jackfield", "hf", "openvino", "llama", "vllm")
ENGINES = (
    Engine("Jackfield bf16", "jackfield", "Jackfield", 16, "safetensors", {"dtype": "bfloat16"}),
    Engine("transformers bf16", "hf", "Transformers", 16, "safetensors"),
    Engine("OpenVINO GenAI 16-bit", "openvino", "OpenVino", 16, "openvino-fp16"),
    Engine("llama.cpp bf16", "llama", "LlamaServer", 16, "gguf-bf16"),
    Engine("llama-bench bf16", "llama", "LlamaBench", 16, "gguf-bf16"),
    Engine("vLLM CPU bf16", "vllm", "Vllm", 16, "safetensors"),
    Engine(
        "Jackfield int8", "jackfield", "Jackfield", 8, "safetensors", {"dtype": "bfloat16", "quantization": "int8-all"}
    ),
    Engine("OpenVINO GenAI int8", "openvino", "OpenVino", 8, "openvino-int8"),
    Engine("llama.cpp Q8_0", "llama", "LlamaServer", 8, "gguf-q8_0"),
    Engine("llama-bench Q8_0", "llama", "LlamaBench", 8, "gguf-q8_0"),
    Engine("OpenVINO GenAI int4", "openvino", "OpenVino", 4, "openvino-int4"),
    Engine("llama.cpp Q4_0", "llama", "LlamaServer", 4, "gguf-q4_0"),
    Engine("llama-bench Q4_0", "llama", "LlamaBench", 4, "gguf-q4_0"),
)


def chosen(peers: list[str], bits: list[int]) -> list[Engine]:
    """Engines of these peers and sizes of a weight, those of one size side by side."""
    return [engine for size in bits for engine in ENGINES if engine.bits == size and engine.peer in peers]
