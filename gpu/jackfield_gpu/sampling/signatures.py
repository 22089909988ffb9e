"""Every kernel of this folder, to be compiled ahead of time."""

from __future__ import annotations

from collections.abc import Iterator

from jackfield_attention.triton.signature import Signature
from jackfield_gpu.compiled import Launch, signature
from jackfield_gpu.sampling.penalties import BLOCK as PENALIZED
from jackfield_gpu.sampling.penalty_kernels import penalize_kernel
from jackfield_gpu.sampling.threshold import BLOCK, CUTS, ROUNDS
from jackfield_gpu.sampling.threshold_kernels import threshold_kernel


def signatures() -> Iterator[Signature]:
    """One for each kernel."""
    yield signature(
        penalize_kernel,
        "penalize",
        {
            **dict.fromkeys(("logits", "factors", "out"), "*fp32"),
            "seen": "*i32",
            "places": "*i64",
            **dict.fromkeys(("width", "row_stride", "seen_stride"), "i32"),
        },
        {"BLOCK": PENALIZED},
        Launch(4, aligned=("width", "row_stride", "seen_stride")),
    )
    yield signature(
        threshold_kernel,
        "sampling_threshold",
        {
            "logits": "*fp32",
            "top_k": "*i64",
            "top_p": "*fp32",
            "out": "*fp32",
            "width": "i32",
            "row_stride": "i32",
        },
        {"ROUNDS": ROUNDS, "CUTS": CUTS, "BLOCK": BLOCK},
        Launch(8),
    )
