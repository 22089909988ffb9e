"""RMS norms in Triton; shapes and meaning as in `jackfield_platforms.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_gpu.ops.norm_kernels import add_rms_norm_kernel, rms_norm_kernel
from jackfield_gpu.ops.row_views import as_rows
from jackfield_gpu.ops.tiles import row_tile
from jackfield_platforms.communicator import Communicator


class Norms:
    """The functions, for a device whose warps have `warp` threads."""

    def __init__(self, warp: int) -> None:
        self._warp = warp

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = as_rows(x)
        count, width = rows.shape[0] * rows.shape[1], rows.shape[2]
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if count:
            tile = row_tile(width, self._warp)
            rms_norm_kernel[(-(-count // tile.rows),)](
                rows, weight, out, count, rows.shape[1], width, rows.stride(0), rows.stride(1), eps,
                ROWS=tile.rows, WIDTH=tile.width, num_warps=tile.num_warps,
            )  # fmt: skip
        return out

    def reduce_add_rms_norm(
        self, partial: Tensor, residual: Tensor, weight: Tensor, eps: float, comm: Communicator
    ) -> tuple[Tensor, Tensor]:
        first, second = _matrix(comm.all_reduce(partial)), _matrix(residual)
        count, width = second.shape
        out, total = (torch.empty(residual.shape, dtype=residual.dtype, device=residual.device) for _ in range(2))
        if count:
            tile = row_tile(width, self._warp)
            add_rms_norm_kernel[(-(-count // tile.rows),)](
                first, second, weight, out, total, count, width, first.stride(0), second.stride(0), eps,
                ROWS=tile.rows, WIDTH=tile.width, num_warps=tile.num_warps,
            )  # fmt: skip
        return out, total


def _matrix(x: Tensor) -> Tensor:
    """`[rows, width]` with a dense last dimension."""
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(1) == 1 else x.contiguous()
