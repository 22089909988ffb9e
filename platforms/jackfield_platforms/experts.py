"""Experts of a mixture in one call: what a platform is told of them, what it is given, and the plain-torch definition.

`Platform.experts(spec)` answers from data alone, before a weight is there: a reason why not, or a function that takes
the experts' packed weights and returns their product. Where it gives a reason, `plain_experts` serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.fusion import FusedLinear, PackedLinear


class ExpertsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Gated experts of one size (SwiGLU), and how tokens are routed, as data.

    The odds of a token's experts are the softmax of its logits; it goes to the `top` highest, and their results are
    added by their odds, which `renormalize` divides by their sum.
    """

    dtype: str  # of activations
    hidden_size: int
    inner_size: int  # of gate, and of up; of one rank
    num_experts: int
    top: int
    renormalize: bool
    gate_up: FusedLinear  # of the first expert; the others differ in their names alone
    down: FusedLinear


class ExpertWeights(msgspec.Struct, frozen=True, eq=False):
    """What a layer's experts hold once they are loaded, one of each an expert."""

    gate_up: tuple[PackedLinear, ...]
    down: tuple[PackedLinear, ...]


class ExpertsFn(Protocol):
    """x `[tokens, hidden]`, logits `[tokens, experts]`; as x, a partial sum where the model is sharded."""

    def __call__(self, x: Tensor, logits: Tensor) -> Tensor: ...


MakeExperts = Callable[[ExpertWeights], ExpertsFn]


def plain_experts(spec: ExpertsSpec, weights: ExpertWeights) -> ExpertsFn:
    """Tokens sorted by expert, each expert's run of rows multiplied by its weights; sums in float32.

    The runs' lengths depend on what the tokens hold: nothing for captured programs.
    """

    def experts(x: Tensor, logits: Tensor) -> Tensor:
        share, expert = logits.float().softmax(-1).topk(spec.top, dim=-1)  # [tokens, top]
        if spec.renormalize:
            share = share / share.sum(-1, keepdim=True)
        order = expert.flatten().argsort(stable=True)
        token = order // spec.top
        runs = x[token].split(torch.bincount(expert.flatten(), minlength=spec.num_experts).tolist())
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        products = [_expert(*each) for each in zip(weights.gate_up, weights.down, runs, strict=True)]
        out.index_add_(0, token, torch.cat(products).float() * share.flatten()[order, None])
        return out.to(x.dtype)

    return experts


def _expert(gate_up: PackedLinear, down: PackedLinear, rows: Tensor) -> Tensor:
    if not len(rows):
        return rows
    gate, up = gate_up.op.apply(rows, gate_up.packed).chunk(2, dim=-1)
    return down.op.apply(F.silu(gate) * up, down.packed)
