"""Launching the kernels of one layer. Nothing here looks at a tensor's value, and no grid depends on one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jackfield_attention.triton.attention_kernels import attention_kernel
from jackfield_attention.triton.latent_kernels import latent_kernel
from jackfield_attention.triton.plan import TritonPlan
from jackfield_attention.triton.shape import Shape
from jackfield_attention.triton.split_kernels import join_splits_kernel
from jackfield_attention.triton.write_kernels import write_kernel
from jackfield_platforms.attention import Rope

WRITE_WARPS = 4
JOIN_WARPS = 4


@dataclass(frozen=True)
class LayerTensors:
    """What the kernels read of a layer."""

    k_cache: Tensor  # 8-bit floats as bits
    v_cache: Tensor | None  # None: values are a part of the keys
    sinks: Tensor | None = None
    slopes: Tensor | None = None
    k_scale: Tensor | None = None
    v_scale: Tensor | None = None


def write(
    shape: Shape, step: tuple[Tensor, Tensor, Tensor], layer: LayerTensors, plan: TritonPlan, rope: Rope | None
) -> Tensor:
    """Store the step's keys and values, rotated if asked; the queries, rotated too."""
    q, k, v = (dense_in_heads(x) for x in step)
    tokens = k.shape[0]
    if not tokens:
        return q
    rotated = rope is not None
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if rotated else q
    angles = rope.table if rope is not None else plan.numbers
    positions = rope.positions if rope is not None else plan.numbers
    constants = shape.writing(angles.shape[-1] if rotated else 0, rope is not None and rope.interleaved)
    programs = constants["Q_PROGRAMS"] - (-shape.need.kv.kv_heads // constants["HEADS"])
    values = layer.k_cache if layer.v_cache is None else layer.v_cache
    write_kernel[(tokens, programs)](
        q, k, v, out, layer.k_cache, values, plan.slots, angles, positions,
        _or(layer.k_scale, plan), _or(layer.v_scale, plan),
        q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1),
        layer.k_cache.stride(0), values.stride(0), angles.stride(0),
        **constants, num_warps=WRITE_WARPS, num_stages=1,
    )  # fmt: skip
    return out


def attend(shape: Shape, q: Tensor, layer: LayerTensors, plan: TritonPlan) -> Tensor:
    """Answers `[tokens, query_heads, v_dim]` of what the cache holds; those of padding are undefined."""
    q, grid, need = dense_in_heads(q), plan.grid, shape.need
    out = torch.empty(q.shape[0], need.query_heads, need.kv.v_dim, dtype=q.dtype, device=q.device)
    if not q.shape[0]:
        return out
    parts = (out, out, out) if grid.splits == 1 else _parts(out, grid.splits)
    scale, cap = shape.scales
    where = (plan.query_start, plan.num_new, plan.kv_len, plan.tile_row, plan.tile_first)
    numbers = (scale, cap, q.shape[0], q.stride(0), q.stride(1), layer.k_cache.stride(0))
    sizes = {**shape.attending(grid), "num_warps": grid.tile.num_warps, "num_stages": grid.tile.num_stages}
    if layer.v_cache is None:
        latent_kernel[(grid.tiles, grid.chunks, grid.splits)](
            q, layer.k_cache, out, *parts, _or(layer.sinks, plan), _or(layer.k_scale, plan),
            plan.columns, *where, plan.table, *numbers, **sizes,
        )  # fmt: skip
    else:
        attention_kernel[(grid.tiles, need.kv.kv_heads * grid.chunks, grid.splits)](
            q, layer.k_cache, layer.v_cache, out, *parts, _or(layer.sinks, plan), _or(layer.slopes, plan),
            _or(layer.k_scale, plan), _or(layer.v_scale, plan),
            plan.columns, *where, plan.table, *numbers, layer.v_cache.stride(0), **sizes,
        )  # fmt: skip
    if grid.splits > 1:
        join_splits_kernel[(grid.tiles * grid.queries, need.query_heads)](
            *parts, out, *where, q.shape[0], **shape.joining(grid), num_warps=JOIN_WARPS, num_stages=1
        )
    return out


def dense_in_heads(x: Tensor) -> Tensor:
    """x `[tokens, heads, dim]`, a copy unless the numbers of a head lie side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _parts(out: Tensor, splits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Answers, highest scores and sums of weights of each split; all float32, `[splits, tokens, heads, ...]`."""
    answers = torch.empty(splits, *out.shape, dtype=torch.float32, device=out.device)
    tops, sums = torch.empty(2, splits, *out.shape[:2], dtype=torch.float32, device=out.device).unbind()
    return answers, tops, sums


def _or(tensor: Tensor | None, plan: TritonPlan) -> Tensor:
    """A pointer for a kernel that reads none."""
    return plan.numbers if tensor is None else tensor
