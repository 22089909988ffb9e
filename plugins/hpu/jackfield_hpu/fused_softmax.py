"""The vendor's kernels for the softmax over a flat list of blocks.

`torch.ops.hpu.block_softmax(attn, block_bias, block_groups)` gives the exponentials of each block and its maxima and
sums, in a layout of the kernel's own, which `block_softmax_adjustment(maxima, sums, block_groups, rows, out_shape)`
reads and turns into the factor of each block. A group of -1 is nobody's. Written from the vendor's tests
(gaudi-pytorch-bridge, tests of `block_softmax`, 2025-2026) and its use in vllm-project/vllm-gaudi
(`vllm_gaudi/extension/ops.py`): they take five dimensions, in bfloat16 or float32. Not run on a device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_hpu.block_softmax import FlatScores
from jackfield_hpu.vendor import missing_op, op

OPS = "block_softmax", "block_softmax_adjustment"


def missing() -> str | None:
    """Why the kernels are not there, or None."""
    return next((reason for name in OPS if (reason := missing_op(name)) is not None), None)


def fused_block_softmax(flat: FlatScores, sinks: Tensor | None) -> Tensor:
    """As `block_softmax`; the kernels know no sinks."""
    assert sinks is None, "rejected"
    entries, kv_heads, group, queries, _ = flat.scores.shape
    weights, top, sums = op("block_softmax")(flat.scores, flat.bias, flat.groups)
    shape = [entries, kv_heads, group, queries, 1]
    factor = op("block_softmax_adjustment")(top, sums, flat.groups, flat.mapping.shape[1], shape)
    # what the kernel leaves of a block of nobody's is not documented
    owned = (flat.groups >= 0).view(-1, 1, 1, 1, 1)
    result: Tensor = weights * torch.where(owned, factor, 0.0)
    return result
