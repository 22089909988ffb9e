"""From scores to attention weights: soft cap, mask, sinks, softmax."""

from __future__ import annotations

import torch
from torch import Tensor


def capped_(scores: Tensor, soft_cap: float | None) -> Tensor:
    """cap * tanh(scores / cap), in place; the scores themselves without a cap."""
    return scores if soft_cap is None else scores.div_(soft_cap).tanh_().mul_(soft_cap)


def weigh(scores: Tensor, sinks: Tensor | None, out: Tensor) -> None:
    """Softmax over the last dimension into `out`; `sinks`, shaped like one key's scores, joins the denominators.

    Hidden keys hold -inf; at least one key of each query is finite.
    """
    if sinks is None:
        torch.softmax(scores, dim=-1, out=out)
        return
    top = torch.maximum(scores.amax(-1, keepdim=True), sinks)
    torch.exp(scores.sub_(top), out=out)
    out.div_(out.sum(-1, keepdim=True) + torch.exp(sinks - top))
