"""Drawing a token from logits with a given uniform number, by the inverse of the cumulative distribution in id
order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 512


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Token ids `[rows]` from float32 logits `[rows, vocab]` (-inf: not allowed) and uniforms `[rows]` in [0, 1).

    Sums are taken over blocks of 512 first, then inside the one block that the number falls into: one pass over the
    row, and float32 stays exact enough over 150,000 entries.
    """
    probs = (logits - logits.amax(-1, keepdim=True)).exp()
    vocab = probs.shape[-1]
    blocks = F.pad(probs, (0, -vocab % _BLOCK)).unflatten(-1, (-1, _BLOCK))  # [rows, blocks, 512]
    sums = blocks.sum(-1)
    cumulative = sums.cumsum(-1)
    target = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    block = _first_past(cumulative, sums, target)
    rest = target - (cumulative.gather(-1, block) - sums.gather(-1, block))
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, 1, _BLOCK)).squeeze(1)
    place = _first_past(inside.cumsum(-1), inside, rest)
    return (block * _BLOCK + place).squeeze(-1)


def _first_past(cumulative: Tensor, weights: Tensor, target: Tensor) -> Tensor:
    """The first place whose cumulative weight exceeds `target`, never one of weight 0; `[rows, 1]`."""
    places = torch.arange(weights.shape[-1], device=weights.device)
    last_positive = torch.where(weights > 0, places, 0).amax(-1, keepdim=True)
    passed = (cumulative > target) & (weights > 0)
    first = torch.where(passed, places, weights.shape[-1]).amin(-1, keepdim=True)
    return torch.minimum(first, last_positive)
