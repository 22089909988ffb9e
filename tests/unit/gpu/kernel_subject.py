"""The kit's subject for kernels under the interpreter: ops, linear layers and experts of a GPU over host tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from jackfield_gpu.arch import Arch, amd, nvidia
from jackfield_gpu.experts.experts import experts
from jackfield_gpu.linear.weight_only import WeightOnlyLinear
from jackfield_gpu.ops.table import op_table
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.experts import ExpertsSpec, MakeExperts
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform

ARCHS = {"sm_90": nvidia(9, 0), "gfx942": amd("gfx942")}
DTYPES = ("float32", "float16", "bfloat16")  # the last multiplied right by the repaired interpreter alone
SEEDS = range(int(os.environ.get("JACKFIELD_GPU_SEEDS", "1")))


class Interpreted(StrictPlatform):
    """The host with a GPU's kernels."""

    name = "interpreted"

    def __init__(self, arch: Arch, multiprocessors: int = 132) -> None:
        super().__init__()
        self.arch, self.multiprocessors = arch, multiprocessors

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=DTYPES, kv_dtypes=DTYPES)

    def device(self, rank: int = 0) -> torch.device:
        return torch.device("cpu")

    def ops(self) -> OpTable:
        return op_table(self.arch)

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        return (WeightOnlyLinear(self.arch, self.multiprocessors),)

    def experts(self, spec: ExpertsSpec) -> MakeExperts | str:
        return experts(self.arch, spec)


def subject(arch: str, multiprocessors: int = 132) -> Subject:
    return Subject("interpreted", Interpreted(ARCHS[arch], multiprocessors), ())
