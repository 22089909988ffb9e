"""What attention takes of a token's time."""

from __future__ import annotations

import pytest
from peers.contexts import attention, gap


def test_attention_is_what_a_long_context_adds() -> None:
    found = attention(seconds=0.05, short_seconds=0.04, kv_bytes=2e8, bandwidth=4e10)
    assert found["attention_seconds"] == pytest.approx(0.01)
    assert found["kv_bytes_per_second"] == pytest.approx(2e10)
    assert found["of_bandwidth"] == pytest.approx(0.5)


def test_noise_that_hides_attention_gives_no_rate() -> None:
    found = attention(seconds=0.04, short_seconds=0.05, kv_bytes=2e8, bandwidth=4e10)
    assert "kv_bytes_per_second" not in found
    assert "of_bandwidth" not in found


def test_one_slow_token_does_not_count() -> None:
    assert gap([1.0, 1.1, 1.2, 9.0, 9.1]) == pytest.approx(0.1)
