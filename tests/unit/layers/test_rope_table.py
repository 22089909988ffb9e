"""Tables of rotary embeddings: their shape, and what the served length changes. Values: test_model_parity."""

from __future__ import annotations

import math

import pytest
import torch

from jackfield.config.rope_config import RopeConfig
from jackfield.layers.rope import attention_factor, rope_table


def test_each_position_holds_cosines_then_sines() -> None:
    table = rope_table(RopeConfig(theta=100.0), head_dim=4, max_positions=9)
    assert table.shape == (9, 4)
    angles = torch.arange(9, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.1], dtype=torch.float64)
    assert torch.allclose(table.double(), torch.cat((angles.cos(), angles.sin()), dim=1), atol=1e-6)


def test_a_partial_rotary_factor_narrows_the_table_and_its_frequencies() -> None:
    partial = rope_table(RopeConfig(partial_rotary_factor=0.25), head_dim=64, max_positions=20)
    assert torch.equal(partial, rope_table(RopeConfig(), head_dim=16, max_positions=20))


def test_dynamic_changes_nothing_within_the_trained_context() -> None:
    dynamic = RopeConfig(type="dynamic", factor=4.0, original_max_len=32)
    assert torch.equal(rope_table(dynamic, 16, 32), rope_table(RopeConfig(), 16, 32))
    assert not torch.equal(rope_table(dynamic, 16, 33)[:32], rope_table(RopeConfig(), 16, 32))


def test_longrope_takes_its_long_factors_beyond_the_trained_context() -> None:
    rope = RopeConfig(type="longrope", factor=4.0, original_max_len=32, short_factor=(1.0,) * 8, long_factor=(2.0,) * 8)
    scale = math.sqrt(1 + math.log(4) / math.log(32))
    assert attention_factor(rope) == pytest.approx(scale)
    plain = rope_table(RopeConfig(), 16, 80)
    assert torch.allclose(rope_table(rope, 16, 32), plain[:32] * scale)
    assert torch.allclose(rope_table(rope, 16, 80)[::2], plain[:40] * scale, atol=1e-5)  # half the speed


def test_longrope_needs_a_factor_for_each_pair() -> None:
    rope = RopeConfig(type="longrope", original_max_len=32, short_factor=(1.0,) * 7, long_factor=(1.0,) * 8)
    with pytest.raises(ValueError, match="short_factor must hold 8 numbers, one for each pair; found 7"):
        rope_table(rope, 16, 32)


def test_a_stated_attention_factor_is_taken() -> None:
    assert attention_factor(RopeConfig(type="yarn", factor=4.0, attention_factor=0.5)) == 0.5
    assert attention_factor(RopeConfig(type="yarn", factor=4.0)) == pytest.approx(0.1 * math.log(4) + 1)
    assert attention_factor(RopeConfig(type="linear", factor=4.0)) == 1.0
