"""An emulated device that runs what comes, the same with planned sizes, and requests of every kind of sampling."""

from __future__ import annotations

from typing import Any

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.compiled_graphs import CompiledGraphs
from jackfield_platforms.testing.emulated import EmulatedDevice
from jackfield_platforms.testing.strict import StrictPlatform

KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.8, "min_p": 0.02},
    {"temperature": 1.2, "top_p": 0.9, "top_k": 60},
    {"temperature": 0, "frequency_penalty": 1.0, "repetition_penalty": 1.2, "logprobs": 3},
    {"temperature": 0.5, "logit_bias": {7: 3.0}, "presence_penalty": 0.7},
    {"temperature": 0, "allowed_token_ids": list(range(50, 90)), "logprobs": 0},
)


class AnySize(EmulatedDevice):
    """An emulated device that runs what comes."""

    name, device_type = "any-size", "emulated"

    def capabilities(self):
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",), asynchronous=True)

    def attention_backends(self):
        return (FlatBlockAttention,)


class Static(AnySize):
    """The same with planned sizes, in which every operation counts that has new sizes."""

    name = "static"

    def capabilities(self):
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",), asynchronous=True, static_shapes=True)

    def buckets(self, limits):
        return StrictPlatform.buckets(self, limits)

    def graph_runner(self):
        self.graphs = CompiledGraphs(lambda program: program)
        return self.graphs
