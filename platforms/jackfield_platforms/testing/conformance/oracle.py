"""What is right, in float64 and in the plainest form: one sequence, no blocks, no batch, no tricks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Windowed


def attention(
    q: Tensor, k: Tensor, v: Tensor, need: AttentionNeed, sinks: Tensor | None = None, slopes: Tensor | None = None
) -> Tensor:
    """Causal attention of the last `len(q)` tokens of a sequence to all of its `len(k)` tokens.

    q `[queries, query_heads, k_dim]`, k `[keys, kv_heads, k_dim]`, v `[keys, kv_heads, v_dim]`, sinks and slopes
    `[query_heads]`, all float64; returns `[queries, query_heads, v_dim]`. Query head h reads kv head
    h // (query_heads / kv_heads).
    """
    own = torch.arange(need.query_heads) // (need.query_heads // need.kv.kv_heads)  # the kv head of each query head
    q, k, v = q.transpose(0, 1), k[:, own].transpose(0, 1), v[:, own].transpose(0, 1)  # [query_heads, tokens, dim]
    scores = (q @ k.transpose(1, 2)) * need.scale
    if need.soft_cap is not None:
        scores = need.soft_cap * torch.tanh(scores / need.soft_cap)
    if slopes is not None:  # what is further back counts less
        scores = scores - slopes[:, None, None] * behind(q.shape[1], k.shape[1])
    scores = scores.masked_fill(~sees(q.shape[1], k.shape[1], window(need)), -math.inf)
    if sinks is not None:  # one more logit a row, which has no value
        scores = torch.cat((scores, sinks[:, None, None].expand(-1, q.shape[1], 1)), dim=2)
    weights = torch.softmax(scores, dim=2)[..., : k.shape[1]]
    return (weights @ v).transpose(0, 1)


def sees(queries: int, keys: int, window: int | None) -> Tensor:
    """Which key each query sees, bool `[queries, keys]`: itself and what came before it, within the window."""
    distance = behind(queries, keys)
    return (distance >= 0) & (distance < (keys if window is None else window))


def behind(queries: int, keys: int) -> Tensor:
    """Tokens from each query back to each key, `[queries, keys]`; of later keys less than 0."""
    return torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)


def window(need: AttentionNeed) -> int | None:
    """Tokens that a query sees, itself included; None: all before it."""
    return need.kv.window if isinstance(need.kv, Windowed) else None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def penalize(logits: Tensor, seen: Tensor, factors: Tensor) -> Tensor:
    """Logits `[rows, vocab]` after penalties; seen of the same shape, factors `[rows, 3]`, as of the op."""
    in_any, generated = seen > 0, seen // 2
    repeated = torch.where(logits > 0, logits / factors[:, :1], logits * factors[:, :1])
    penalised = torch.where(in_any, repeated, logits)
    return penalised - factors[:, 1:2] * generated - torch.where(generated > 0, factors[:, 2:], 0.0)


def kept_from(logits: Tensor, top_k: int, top_p: float) -> float:
    """The lowest of the logits `[vocab]` that top-k, then top-p over what it left, keep: by sorting."""
    ordered = logits[logits > -math.inf].sort(descending=True).values
    ordered = ordered[ordered >= ordered[min(top_k, len(ordered)) - 1]]  # ties stay
    probabilities = ordered.softmax(0)
    before = probabilities.cumsum(0) - probabilities
    return float(ordered[(before < top_p) | (top_p >= 1)][-1])


def silu_mul(gate_up: Tensor) -> Tensor:
    """gate * sigmoid(gate) * up, gate and up the halves of the last dimension."""
    gate, up = gate_up.tensor_split(2, dim=-1)
    return gate * torch.sigmoid(gate) * up


def rotate(x: Tensor, table: Tensor, positions: Tensor, interleaved: bool) -> Tensor:
    """The first `table.shape[1]` elements of each head as complex numbers, turned by the angle of their position.

    x `[tokens, heads, dim]` float64; pairs are neighbours if `interleaved`, otherwise element i and i + rotary_dim / 2.
    """
    rotary_dim = table.shape[1]
    cos, sin = table.double()[positions].tensor_split(2, dim=1)
    turn = torch.complex(cos, sin)[:, None, :]
    part, rest = x[..., :rotary_dim], x[..., rotary_dim:]
    pairs = part.unflatten(-1, (-1, 2)) if interleaved else part.unflatten(-1, (2, -1)).transpose(-1, -2)
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turn)  # [tokens, heads, pairs, 2]
    back = turned if interleaved else turned.transpose(-1, -2)
    return torch.cat((back.flatten(-2), rest), dim=-1)


def lora_add(out: Tensor, x: Tensor, a: Tensor, b: Tensor, adapters: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Token by token, `out` and what the token's adapter adds to each part; shapes as for `reference.lora_add`."""
    rows = []
    for row, token, slot in zip(out, x, adapters.tolist(), strict=True):
        if slot < 0:
            rows.append(row)
            continue
        parts = b[slot].split(sizes, dim=1)  # each [rank, part]
        rows.append(row + torch.cat([token @ a[slot, part].t() @ wide for part, wide in enumerate(parts)]))
    return torch.stack(rows)
