"""Which engines there are, in which precisions, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SEQUENCES = 64  # most sequences at once
POOL_TOKENS = {"start": 4352, "decode": 4352, "prefill": 4352, "batch": 8192, "mix": 28_032, "online": 16_384}
PREFIX_POOL_TOKENS = 37_376  # 32 prompts of 1,088, not shared; as mix, whole GiB of the 0.6B shape, which some count in
SERVED = {"adapters.Jackfield": "servers.JackfieldServer", "adapters.Vllm": "servers.VllmServer"}  # where streams count
STREAMED = ("online", "long")
REFUSALS = {  # by adapter and measure: why there is no such figure
    ("adapters.Transformers", "online"): "generate answers static batches: who comes later has none to join",
    ("adapters.LlamaBench", "online"): "llama-bench serves nobody; llama.cpp's server has the figure",
    ("adapters.LlamaBench", "long"): "llama-bench has no streams; llama.cpp's server has the figure",
    ("adapters.LlamaBench", "start"): "llama-bench starts once a measurement; llama.cpp's server has the figure",
}
ONLY_OURS = "only Jackfield takes K/V that nobody computed"


class Engine(NamedTuple):
    """One column of the comparison. `files` names what it loads, see `models.py`."""

    name: str
    peer: str  # whose installation runs it
    adapter: str  # the class, and the file in this folder
    bits: int  # of a weight: 16, 8 or 4; engines of one size are compared
    files: str
    options: Mapping[str, Any] = {}

    def adapter_for(self, measure: str) -> str:
        """The class that answers a measure: a server where requests are streamed."""
        if measure == "imported":
            return "filled.JackfieldFilled"
        return SERVED.get(self.adapter, self.adapter) if measure in STREAMED else self.adapter

    def refuses(self, measure: str) -> str | None:
        """Why it has no figure of a measure, if so."""
        if measure == "imported" and self.peer != "jackfield":
            return ONLY_OURS
        return REFUSALS.get((self.adapter, measure))

    def options_for(self, measure: str) -> dict[str, Any]:
        """Some engines share prefixes only when told to, and are faster without where there is nothing to share.

        A long prompt that is asked again is one, except for llama.cpp: its slots keep a prompt anyway, and sharing
        would move a large one out of them.
        """
        if self.peer == "jackfield":
            return dict(self.options)  # always may
        again = measure == "long" and self.peer != "llama"
        return {**self.options, "share_prefixes": measure.startswith("prefix") or again}


def slots(measure: str, contexts: tuple[int, ...]) -> tuple[int, int]:
    """llama.cpp's: how many, and tokens of each. Slots of their own: in one shared pool everyone attends to it all.

    More would not be faster, as a batch of 16 is bound by arithmetic, and the pool is everyone's; every request fits.
    """
    if measure in ("long", "imported"):
        return len(contexts) + 1, max(contexts) + 256  # a slot a prompt, so that each stays
    count = {"start": 1, "decode": 1, "prefill": 1, "mix": 16, "online": 16}.get(measure, 32)
    return count, pool_tokens(measure, contexts) // count


def pool_tokens(measure: str, contexts: tuple[int, ...]) -> int:
    """Room in the cache, the same for everyone."""
    if measure in ("long", "imported"):
        return sum(contexts) + 4096
    return POOL_TOKENS.get(measure, PREFIX_POOL_TOKENS)


PEERS = ("jackfield", "hf", "openvino", "llama", "vllm")
BF16, INT8 = {"dtype": "bfloat16"}, {"dtype": "bfloat16", "quantization": "int8-all"}
INT4 = {"dtype": "bfloat16", "quantization": "int4-all"}
OV_KV16, OV_KV8 = {"kv": "f16"}, {"kv": "u8"}  # OpenVINO's own choices for weights of 16 bits, and of fewer
ENGINES = (
    Engine("Jackfield bf16", "jackfield", "adapters.Jackfield", 16, "safetensors", BF16),
    Engine("transformers bf16", "hf", "adapters.Transformers", 16, "safetensors"),
    Engine("OpenVINO GenAI 16-bit", "openvino", "adapters.OpenVino", 16, "openvino-fp16", OV_KV16),
    Engine("llama.cpp bf16", "llama", "servers.LlamaServer", 16, "gguf-bf16"),
    Engine("llama-bench bf16", "llama", "adapters.LlamaBench", 16, "gguf-bf16"),
    Engine("vLLM CPU bf16", "vllm", "adapters.Vllm", 16, "safetensors"),
    Engine("Jackfield int8", "jackfield", "adapters.Jackfield", 8, "safetensors", INT8),
    Engine("OpenVINO GenAI int8", "openvino", "adapters.OpenVino", 8, "openvino-int8", OV_KV8),
    Engine("llama.cpp Q8_0", "llama", "servers.LlamaServer", 8, "gguf-q8_0"),
    Engine("llama-bench Q8_0", "llama", "adapters.LlamaBench", 8, "gguf-q8_0"),
    Engine("Jackfield int4", "jackfield", "adapters.Jackfield", 4, "safetensors", INT4),
    Engine("OpenVINO GenAI int4", "openvino", "adapters.OpenVino", 4, "openvino-int4", OV_KV8),
    Engine("llama.cpp Q4_0", "llama", "servers.LlamaServer", 4, "gguf-q4_0"),
    Engine("llama-bench Q4_0", "llama", "adapters.LlamaBench", 4, "gguf-q4_0"),
)


def chosen(peers: list[str], bits: list[int]) -> list[Engine]:
    """Engines of these peers and sizes of a weight, those of one size side by side."""
    return [engine for size in bits for engine in ENGINES if engine.bits == size and engine.peer in peers]
