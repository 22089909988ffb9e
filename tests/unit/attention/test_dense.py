"""The oracle itself, against arithmetic written out token by token and head by head."""

from __future__ import annotations

import math

import pytest
import torch

from jackfield_attention.dense import dense_attention


def by_hand(q, k, v, need, sinks):
    """One query, one head, one key at a time."""
    out = torch.empty(q.shape[0], q.shape[1], v.shape[-1], dtype=torch.float64)
    group, window = need.query_heads // need.kv.kv_heads, getattr(need.kv, "window", None)
    for i in range(q.shape[0]):
        position = k.shape[0] - q.shape[0] + i
        for head in range(q.shape[1]):
            weights = {}
            for j in range(position + 1):
                if window is not None and position - j >= window:
                    continue
                score = float(q[i, head] @ k[j, head // group]) * need.scale
                if need.soft_cap is not None:
                    score = need.soft_cap * math.tanh(score / need.soft_cap)
                weights[j] = math.exp(score)
            total = sum(weights.values()) + (math.exp(float(sinks[head])) if sinks is not None else 0.0)
            out[i, head] = sum(weight / total * v[j, head // group] for j, weight in weights.items())
    return out


@pytest.mark.parametrize(
    "changes", [{}, {"window": 3}, {"soft_cap": 1.2}, {"sinks": True}, {"kv_heads": 1, "v_dim": 5}], ids=str
)
@pytest.mark.parametrize(("keys", "queries"), [(1, 1), (6, 6), (9, 4)])
def test_dense_attention_is_what_the_formula_says(need, changes, keys, queries):
    torch.manual_seed(keys)
    wanted = need(**changes)
    q = torch.randn(queries, 4, 16, dtype=torch.float64)
    k = torch.randn(keys, wanted.kv.kv_heads, 16, dtype=torch.float64)
    v = torch.randn(keys, wanted.kv.kv_heads, wanted.kv.v_dim, dtype=torch.float64)
    sinks = torch.randn(4, dtype=torch.float64) if wanted.sinks else None
    expected = by_hand(q, k, v, wanted, sinks)
    torch.testing.assert_close(dense_attention(q, k, v, wanted, sinks), expected, rtol=1e-12, atol=1e-12)
