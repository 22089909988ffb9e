"""Sizes that programs are compiled at on a TPU: tokens by rows, with a gap that bounds the padding."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.ladder import AnyLadder, Linear, Listed, PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets

VARIABLE = "JACKFIELD_TPU_PADDING_GAP"
"""Tokens by which a launch may be padded at most, beyond the first doublings; 0: sizes double all the way."""

DEFAULT_GAP = 512
_FEWEST_TOKENS = 16
_FEWEST_ROWS = 8
_LAUNCH_TOKENS = 256.0
"""What a launch costs before its first token. Each reads all weights, two bytes each, which takes as long as
multiplying some 240 tokens by them, two operations each: a v5e chip does 197e12 operations and reads 819e9 bytes a
second (Google Cloud documentation, "TPU v5e").
"""
_BLOCK_TOKENS = 1e-6  # what a block costs: of equally many tokens the larger bucket is still the dearer one


def padding_gap(environ: Mapping[str, str] = os.environ) -> int:
    """The user's gap, or the default; ValueError when it is no number of tokens."""
    text = environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT_GAP
    if not text.isdecimal():
        raise ValueError(f"{VARIABLE} is a number of tokens, 0 or more; got {text!r}")
    return int(text)


def tpu_buckets(limits: Limits, gap: int) -> StaticBuckets:
    """Decode rows by rows, everything else by tokens with as many rows as tokens allow.

    Rows have all the blocks that a sequence may have: the kernel's time follows the tokens that are there, not the
    table's width, so that blocks are no dimension and cost next to nothing here.
    """
    tokens: AnyLadder = Linear(low=_FEWEST_TOKENS, step=gap) if gap > _FEWEST_TOKENS else PowersOfTwo(_FEWEST_TOKENS)
    rows: AnyLadder = Linear(low=_FEWEST_ROWS, step=gap) if gap > _FEWEST_ROWS else PowersOfTwo(_FEWEST_ROWS)
    blocks = Listed((limits.max_blocks,))
    rules = (
        PhaseRule(phase="decode", rows=rows, blocks=blocks),
        PhaseRule(phase="mixed", tokens=tokens, blocks=blocks),
    )
    plan = StaticBuckets.of_rules(rules, limits, launch_cost=_LAUNCH_TOKENS)
    return StaticBuckets(msgspec.structs.replace(plan.sizes, block_cost=_BLOCK_TOKENS))
