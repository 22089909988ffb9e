"""Which expert takes which token: shapes depend on sizes alone, and nothing is read on the host."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.experts import ExpertsSpec


class Routing(msgspec.Struct, frozen=True, eq=False):
    """Pairs of a token and one of its experts: pair p is of token p // top. Sorted by expert, each expert has a run."""

    share: Tensor  # float32 [tokens, top]
    order: Tensor  # int64 [pairs]: the pair at each place of the sorted ones
    starts: Tensor  # int32 [experts + 1]: where each expert's run begins, and the last one ends
    blocks: Tensor  # int32 [experts]: tiles of all experts up to this one, itself included


def route(spec: ExpertsSpec, logits: Tensor, rows: int) -> Routing:
    """Logits `[tokens, experts]` routed, with tiles of `rows` rows."""
    share, expert = logits.float().softmax(-1).topk(spec.top, dim=-1)
    if spec.renormalize:
        share = share / share.sum(-1, keepdim=True)
    flat = expert.flatten()
    every = torch.arange(spec.num_experts, device=flat.device)
    counts = (flat[:, None] == every).sum(0, dtype=torch.int32)
    starts = torch.nn.functional.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
    blocks = ((counts + (rows - 1)) // rows).cumsum(0, dtype=torch.int32)
    return Routing(share, flat.argsort(stable=True), starts, blocks)
