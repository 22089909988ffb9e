"""The table of a rotary embedding (Su et al., 2021), with each way of stretching it to longer contexts.

Everything is fixed when the model is built. Two scalings depend on how long a sequence is (dynamic, longrope); here the
length is the longest that will be served, so that a cached key means the same whatever sequence reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from jackfield.config.rope_config import RopeConfig


def rope_table(rope: RopeConfig, head_dim: int, max_positions: int) -> Tensor:
    """Cosines then sines, `[max_positions, rotary_dim]` float32, of every position that can occur."""
    rotary_dim = int(head_dim * rope.partial_rotary_factor)
    frequencies = _FREQUENCIES[rope.type](rope, rotary_dim, max_positions)  # [rotary_dim / 2], radians a token
    angles = torch.arange(max_positions, dtype=torch.float32)[:, None] * frequencies
    table = torch.empty(max_positions, 2 * frequencies.numel())
    torch.cos(angles, out=table[:, : frequencies.numel()])
    torch.sin(angles, out=table[:, frequencies.numel() :])
    return table.mul_(attention_factor(rope))


def attention_factor(rope: RopeConfig) -> float:
    """What cosines and sines are multiplied by: it sharpens attention over stretched contexts (yarn, longrope)."""
    if rope.attention_factor is not None and rope.type in ("yarn", "longrope"):
        return rope.attention_factor
    if rope.type == "yarn":
        if rope.mscale and rope.mscale_all_dim:
            return _yarn_scale(rope.factor, rope.mscale) / _yarn_scale(rope.factor, rope.mscale_all_dim)
        return _yarn_scale(rope.factor, 1.0)
    if rope.type == "longrope" and rope.factor > 1:
        return math.sqrt(1 + math.log(rope.factor) / math.log(rope.original_max_len))
    return 1.0


def score_factor(rope: RopeConfig) -> float:
    """What DeepSeek's models multiply scores by, beside the table's factor: yarn's scale by mscale_all_dim, squared."""
    if rope.type == "default" or not rope.mscale_all_dim:
        return 1.0
    return _yarn_scale(rope.factor, rope.mscale_all_dim) ** 2


def _plain(theta: float, rotary_dim: int) -> Tensor:
    # float32 throughout, as the checkpoints' own code has it: the angles of far positions depend on the rounding
    return 1.0 / theta ** (torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim)


def _default(rope: RopeConfig, rotary_dim: int, max_positions: int) -> Tensor:
    return _plain(rope.theta, rotary_dim)


def _linear(rope: RopeConfig, rotary_dim: int, max_positions: int) -> Tensor:
    """Position interpolation (Chen et al., 2023)."""
    return _plain(rope.theta, rotary_dim) / rope.factor


def _dynamic(rope: RopeConfig, rotary_dim: int, max_positions: int) -> Tensor:
    """NTK-aware: the base grows with the length that is served, and not at all within the trained one."""
    stretch = max(max_positions, rope.original_max_len) / rope.original_max_len
    growth = rope.factor * stretch - (rope.factor - 1)
    return _plain(rope.theta * growth ** (rotary_dim / (rotary_dim - 2)), rotary_dim)


def _llama3(rope: RopeConfig, rotary_dim: int, max_positions: int) -> Tensor:
    """Llama 3.1: long waves are stretched, short ones kept, those between blended."""
    plain = _plain(rope.theta, rotary_dim)
    turns = rope.original_max_len * plain / (2 * math.pi)  # over the trained context
    kept = ((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return (1 - kept) * plain / rope.factor + kept * plain


def _yarn(rope: RopeConfig, rotary_dim: int, max_positions: int) -> Tensor:
    """YaRN (Peng et al., 2023): dimensions that turn often are kept, those that hardly turn are interpolated."""
    plain = _plain(rope.theta, rotary_dim)
    first, last = (_yarn_dim(rope, rotary_dim, turns) for turns in (rope.beta_fast, rope.beta_slow))
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotary_dim - 1)
    ramp = (torch.arange(rotary_dim // 2, dtype=torch.float32) - first) / max(last - first, 1e-3)
    stretched = ramp.clamp(0, 1)
    return stretched * plain / rope.factor + (1 - stretched) * plain


def _yarn_dim(rope: RopeConfig, rotary_dim: int, turns: float) -> float:
    """The (fractional) pair of elements that makes `turns` turns over the trained context."""
    return rotary_dim * math.log(rope.original_max_len / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))


def _yarn_scale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(rope: RopeConfig, rotary_dim: int, max_positions: int) -> Tensor:
    """LongRoPE (Ding et al., 2024): a searched factor for each pair, one set within the trained context, one beyond."""
    name = "long_factor" if max_positions > rope.original_max_len else "short_factor"
    factors: tuple[float, ...] = getattr(rope, name)
    if len(factors) != rotary_dim // 2:
        raise ValueError(f"rope {name} must hold {rotary_dim // 2} numbers, one for each pair; found {len(factors)}")
    return _plain(rope.theta, rotary_dim) / torch.tensor(factors, dtype=torch.float32)


_FREQUENCIES: dict[str, Callable[[RopeConfig, int, int], Tensor]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
