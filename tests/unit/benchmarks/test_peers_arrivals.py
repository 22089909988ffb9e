"""Who comes when, and what the instants of the answers say."""

from __future__ import annotations

import itertools

import pytest
from peers.arrivals import REQUESTS, Rate, figures, lengths, poisson, rates
from peers.streams import Arrival


def test_a_schedule_scales_with_the_rate_and_its_tokens_with_the_seed() -> None:
    slow, fast, other = poisson(1.0, 5), poisson(4.0, 5), poisson(1.0, 6)
    assert [each.at for each in slow] == pytest.approx([4 * each.at for each in fast])
    assert [each.ids for each in slow] == [each.ids for each in fast]
    assert [(each.at, each.count) for each in slow] == [(each.at, each.count) for each in other]
    assert slow[0].ids != other[0].ids


def test_arrivals_come_at_the_rate_in_order_and_unevenly() -> None:
    instants = [each.at for each in poisson(2.0, 1)]
    gaps = [second - first for first, second in itertools.pairwise(instants)]
    assert len(instants) == REQUESTS
    assert instants[0] > 0
    assert min(gaps) > 0
    assert 0.3 < sum(gaps) / len(gaps) < 0.7, "half a second on average"
    assert max(gaps) > 3 * sum(gaps) / len(gaps), "exponential gaps, no clockwork"


def test_rates_are_shares_of_what_each_engine_answers_a_second() -> None:
    mean = sum(second for _, second in lengths()) / REQUESTS
    found = rates({"A": 10 * mean, "B": 100 * mean})
    assert [each.requests for each in found] == pytest.approx([6, 9, 60, 90])
    assert [each.whose for each in found] == [("60% of A",), ("90% of A",), ("60% of B",), ("90% of B",)]


def test_rates_that_are_nearly_alike_are_one() -> None:
    mean = sum(second for _, second in lengths()) / REQUESTS
    found = rates({"A": 10 * mean, "B": 10.1 * mean})
    assert [each.whose for each in found] == [("60% of A", "60% of B"), ("90% of A", "90% of B")]
    assert found[0].describe() == "6 requests/s (60% of A, 60% of B)"
    assert Rate(1.23456, ("90% of A",)).describe() == "1.23 requests/s (90% of A)"


def test_a_first_token_is_counted_from_the_arrival_and_gaps_within_a_stream() -> None:
    arrivals = [Arrival(1.0, [1], 3), Arrival(2.0, [1], 2)]
    found = figures(arrivals, [[1.5, 1.6, 1.7], [2.1, 2.4]])
    assert found["first_p50"] == pytest.approx(300), "of 500 and 100 ms"
    assert found["between_p50"] == pytest.approx(100), "of 100, 100 and 300 ms; none between streams"
    assert found["between_p99"] == pytest.approx(296)
    assert found["tokens_per_second"] == pytest.approx(5 / 1.4)
    assert found["tokens_per_event"] == 1


def test_tokens_that_came_together_are_seen() -> None:
    assert figures([Arrival(0.0, [1], 6)], [[1.0, 2.0]])["tokens_per_event"] == 3
