"""The ops that have kernels, as a platform offers them."""

from __future__ import annotations

from jackfield_gpu.arch import Arch
from jackfield_gpu.ops.argmax import argmax
from jackfield_gpu.ops.gates import silu_mul
from jackfield_gpu.ops.norms import Norms
from jackfield_gpu.ops.rotary import rotary
from jackfield_gpu.sampling.penalties import penalize
from jackfield_gpu.sampling.threshold import sampling_threshold
from jackfield_platforms.ops import Impl, OpSpec, OpTable


def op_table(arch: Arch) -> OpTable:
    """Triton's implementations for `arch`. LoRA stays plain torch: its two products are matrix products already."""

    def rejects(spec: OpSpec) -> str | None:
        return None if spec.dtype in arch.dtypes else f"{arch.name} computes in {', '.join(arch.dtypes)}"

    norms = Norms(arch.warp)
    return OpTable(
        rms_norm=(Impl("triton", norms.rms_norm, rejects),),
        reduce_add_rms_norm=(Impl("triton", norms.reduce_add_rms_norm, rejects),),
        silu_mul=(Impl("triton", silu_mul, rejects),),
        rotary=(Impl("triton", rotary, rejects),),
        argmax=(Impl("triton", argmax, rejects),),
        penalize=(Impl("triton", penalize, rejects),),
        sampling_threshold=(Impl("triton", sampling_threshold, rejects),),
    )
