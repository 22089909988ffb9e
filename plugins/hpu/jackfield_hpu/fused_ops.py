"""Norms and rotary embedding through the vendor's kernels, where they are registered. Not run on a device.

`FusedRMSNorm.apply(x, weight, eps)` is `torch.ops.hpu.rms_norm(data_in, gamma, epsilon)`, whose second result is kept
for training, and `apply_rotary_pos_emb(p, cos, sin, position_ids, offset, mode)` is
`torch.ops.hpu.rotary_pos_embedding(input, sin, cos, position_ids, offset, mode)`, with a cosine and a sine for each
element of the rotated part; mode 0 pairs halves, 1 neighbours (gaudi-pytorch-bridge, `hpex/normalization/
FusedRMSNorm.py`, `hpex/kernels/RotaryPosEmbeddingHelper.py`; Intel Gaudi documentation, "Intel Gaudi PyTorch Python
API").
Nothing is documented for SwiGLU's gate: torch's own operations stay, which the graph compiler fuses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jackfield_hpu.vendor import missing_op, op
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.ops import Impl, OpSpec, OpTable

NAME = "hpu"
DTYPES = ("bfloat16", "float32")
_HALVES, _NEIGHBOURS = 0, 1  # modes


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As the reference."""
    normed: Tensor = op("rms_norm")(x, weight, eps)[0]
    return normed


def reduce_add_rms_norm(
    partial: Tensor, residual: Tensor, weight: Tensor, eps: float, comm: Communicator
) -> tuple[Tensor, Tensor]:
    """As the reference."""
    residual = residual + comm.all_reduce(partial)
    return rms_norm(residual, weight, eps), residual


def rotary(q: Tensor, k: Tensor, table: Tensor, positions: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """As the reference."""
    cos, sin = table.index_select(0, positions).to(q.dtype).unsqueeze(1).chunk(2, dim=-1)
    if interleaved:
        cos, sin = (x.repeat_interleave(2, dim=-1) for x in (cos, sin))
    else:
        cos, sin = (torch.cat((x, x), dim=-1) for x in (cos, sin))
    return _rotated(q, cos, sin, interleaved), _rotated(k, cos, sin, interleaved)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    size = cos.shape[-1]
    mode = _NEIGHBOURS if interleaved else _HALVES
    turned: Tensor = op("rotary_pos_embedding")(x[..., :size].contiguous(), sin, cos, None, 0, mode)
    return turned if size == x.shape[-1] else torch.cat((turned, x[..., size:]), dim=-1)


def _needs(name: str) -> Callable[[OpSpec], str | None]:
    def rejects(spec: OpSpec) -> str | None:
        if spec.dtype not in DTYPES:
            return f"the vendor's kernel is tested in {' and '.join(DTYPES)}, not in {spec.dtype}"
        return missing_op(name)

    return rejects


FUSED_OPS = OpTable(
    rms_norm=(Impl(NAME, rms_norm, _needs("rms_norm")),),
    reduce_add_rms_norm=(Impl(NAME, reduce_add_rms_norm, _needs("rms_norm")),),
    rotary=(Impl(NAME, rotary, _needs("rotary_pos_embedding")),),
)
