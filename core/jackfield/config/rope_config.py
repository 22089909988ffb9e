"""How positions are rotated, as a checkpoint's config.json states it: the old spelling and transformers 5's."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from jackfield.config.json_fields import JsonFields

RopeType = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope"]
_SPELLINGS = {"su": "longrope", "ntk": "dynamic", "none": "default"}  # older names for the same things
_NEEDS_FACTOR = ("linear", "dynamic", "llama3")


class RopeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary embedding and its scaling. Fields that a type does not use keep their defaults.

    `original_max_len` is the context that the model was trained at before it was stretched; `attention_factor`
    multiplies cosines and sines (None: what the type's paper gives). Formulas and sources: `jackfield.layers.rope`.
    """

    type: RopeType = "default"
    theta: float = 10_000.0
    partial_rotary_factor: float = 1.0  # share of a head's elements that is rotated
    factor: float = 1.0
    original_max_len: int = 0
    attention_factor: float | None = None
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    mscale: float = 0.0  # yarn
    mscale_all_dim: float = 0.0  # yarn
    truncate: bool = True  # yarn
    short_factor: tuple[float, ...] = ()  # longrope, one for each pair of elements
    long_factor: tuple[float, ...] = ()  # longrope


def read_rope(fields: JsonFields, max_len: int, default_theta: float = 10_000.0) -> RopeConfig:
    """The rope of a config.json whose `max_position_embeddings` is `max_len`; ConfigError names a wrong field."""
    rope = fields.inner("rope_parameters" if "rope_parameters" in fields else "rope_scaling")
    kind = _type(rope)
    original = rope.positive(
        "original_max_position_embeddings", fields.positive("original_max_position_embeddings", max_len)
    )
    stretch = max_len / original
    if kind in _NEEDS_FACTOR or (kind == "yarn" and stretch == 1):
        rope.get("factor", float)
    config = RopeConfig(
        type=kind,
        theta=rope.get("rope_theta", float, fields.get("rope_theta", float, default_theta)),
        partial_rotary_factor=rope.get("partial_rotary_factor", float, fields.get("partial_rotary_factor", float, 1.0)),
        factor=rope.get("factor", float, stretch),
        original_max_len=original,
        attention_factor=rope.get("attention_factor", float) if "attention_factor" in rope else None,
        low_freq_factor=rope.get("low_freq_factor", float, 1.0),
        high_freq_factor=rope.get("high_freq_factor", float, 4.0),
        beta_fast=rope.get("beta_fast", float, 32.0),
        beta_slow=rope.get("beta_slow", float, 1.0),
        mscale=rope.get("mscale", float, 0.0),
        mscale_all_dim=rope.get("mscale_all_dim", float, 0.0),
        truncate=rope.get("truncate", bool, True),
        short_factor=rope.get("short_factor", tuple[float, ...], ()),
        long_factor=rope.get("long_factor", tuple[float, ...], ()),
    )
    _check(config, rope)
    return config


def _type(rope: JsonFields) -> RopeType:
    field = "rope_type" if "rope_type" in rope else "type"
    found = rope.get(field, str, "default")
    found = _SPELLINGS.get(found, found)
    if found not in get_args(RopeType):
        raise rope.error(field, f"is {found!r}; supported rope types: {', '.join(get_args(RopeType))}")
    return found  # type: ignore[return-value]  # just checked


def _check(config: RopeConfig, rope: JsonFields) -> None:
    if config.theta <= 0 or config.factor <= 0:
        raise rope.error("rope_theta" if config.theta <= 0 else "factor", "must be greater than 0")
    if config.type == "longrope":
        for field in ("short_factor", "long_factor"):
            if not getattr(config, field):
                raise rope.error(field, "is missing; longrope needs one number for each rotated pair of elements")
    if config.type == "llama3" and config.high_freq_factor <= config.low_freq_factor:
        raise rope.error("high_freq_factor", f"must be greater than low_freq_factor ({config.low_freq_factor:g})")
