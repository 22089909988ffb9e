"""A prompt gets what running streams can spare, from measured step times alone."""

from __future__ import annotations

import pytest

from jackfield.engine.token_budget import TokenBudget


def measured(decode_seconds: float, token_seconds: float, *, target_seconds: float = 0.1) -> TokenBudget:
    """A budget of 2048 tokens after steps of a device with these costs."""
    budget = TokenBudget(2_048, 16, target_seconds=target_seconds, slowdown=4.0)
    for _ in range(60):
        budget.observe(num_decode=8, num_prefill=0, seconds=decode_seconds)
        budget.observe(num_decode=8, num_prefill=128, seconds=decode_seconds + 128 * token_seconds)
    return budget


def test_without_running_streams_the_budget_is_whole() -> None:
    assert measured(0.05, 0.01).limit(0) == 2_048


def test_before_any_prefill_was_measured_the_budget_is_whole() -> None:
    budget = TokenBudget(2_048, 16, target_seconds=0.1, slowdown=4.0)
    budget.observe(num_decode=4, num_prefill=0, seconds=1.0)
    assert budget.limit(4) == 2_048


def test_a_fast_device_keeps_the_whole_budget() -> None:
    assert measured(0.005, 1e-5).limit(8) == 2_048


def test_a_step_is_predicted_to_take_the_target() -> None:
    budget = measured(0.02, 0.001)
    prefill = budget.limit(8) - 8
    assert prefill == 80
    assert 0.02 + prefill * budget.token_seconds == pytest.approx(0.1, rel=0.01)
    assert measured(0.02, 0.001, target_seconds=0.2).limit(8) - 8 == 176  # of 180, rounded to multiples of 16


def test_where_decode_steps_are_slow_prefill_may_take_three_times_as_long() -> None:
    assert measured(0.3, 0.001).limit(8) - 8 in (880, 896)  # 900 tokens, rounded to multiples of 16


def test_prefill_never_starves() -> None:
    assert measured(0.09, 0.5).limit(8) == 8 + 16


def test_the_limit_never_exceeds_the_budget() -> None:
    assert measured(0.02, 0.001).limit(2_040) == 2_048


def test_one_stall_moves_the_estimate_little_but_a_lasting_change_is_followed() -> None:
    budget = measured(0.02, 0.001)
    before = budget.token_seconds
    budget.observe(num_decode=8, num_prefill=128, seconds=60.0)
    assert budget.token_seconds < 1.5 * before
    for _ in range(60):
        budget.observe(num_decode=8, num_prefill=128, seconds=0.02 + 128 * 0.004)
    assert budget.token_seconds == pytest.approx(0.004, rel=0.05)


def test_small_prompts_alone_do_not_make_tokens_look_dear() -> None:
    budget = measured(0.02, 0.001)
    for _ in range(30):
        budget.observe(num_decode=0, num_prefill=2, seconds=0.022)  # the fixed cost of a step is not the tokens' fault
    assert budget.token_seconds == pytest.approx(0.001, rel=0.05)


def test_equal_observations_give_equal_limits() -> None:
    assert [measured(0.04, 0.002).limit(n) for n in range(50)] == [measured(0.04, 0.002).limit(n) for n in range(50)]


def test_senseless_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"target_seconds must exceed 0 and slowdown 1; got 0\.1 and 1"):
        TokenBudget(100, 16, target_seconds=0.1, slowdown=1.0)
