"""What a gadget can do."""

import os
from collections.abc import Sequence

import torch

from jackfield_gadget.attention import GadgetAttention
from jackfield_gadget.graphs import GadgetGraphs
from jackfield_gadget.linear import TransposedLinear
from jackfield_gadget.ops import OPS
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.buckets.ladder import Exponential, PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable
from jackfield_platforms.platform import Memory, Platform


class GadgetPlatform(Platform):
    """The platform. Required: the two names, `capabilities`, `attention_backends`."""

    name = "gadget"
    device_type = "cpu"  # as torch knows it: your extension's name

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32", "bfloat16"), kv_dtypes=("float32", "bfloat16"), static_shapes=True)

    def attention_backends(self) -> Sequence[type[GadgetAttention]]:
        return (GadgetAttention,)

    # all below has a default; leave out what your device does not need

    def device(self, rank: int = 0) -> torch.device:
        return torch.device("cpu")

    def memory(self, device: torch.device) -> Memory:
        page, free, total = (os.sysconf(name) for name in ("SC_PAGE_SIZE", "SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        return Memory(total=page * total, free=page * free)

    def synchronize(self, device: torch.device) -> None:
        """A processor is done when it returns."""

    def buckets(self, limits: Limits) -> BucketPlan:
        blocks = Exponential(low=8, count=3)
        decode = PhaseRule(phase="decode", rows=PowersOfTwo(low=4), blocks=blocks)
        prefill = PhaseRule(phase="prefill", rows=PowersOfTwo(), query=Exponential(low=16, count=3), blocks=blocks)
        return StaticBuckets.of_rules((decode, prefill), limits)

    def graph_runner(self) -> GraphRunner:
        return GadgetGraphs()

    def ops(self) -> OpTable:
        return OPS

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        return (TransposedLinear(),)

    def describe(self) -> str:
        return "a gadget made of this machine's processor"
