"""With drafts the tokens are those without: whoever drafts, on whichever platform, however steps are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from speculative_runs import Answer, Models, difference, engine_for, requests, run

from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.runner import any_size_sampling
from jackfield.runner.verify import Verified
from jackfield.sampling_params import SamplingParams
from jackfield.speculation.drafter import DraftNeeds, Drafts

REQUESTS = requests(21)
PAIRS = {  # target's platform, draft's platform and model
    "cpu drafts by strict": ("cpu", {"platform": "strict"}),
    "strict drafts by cpu": ("strict", {"platform": "cpu"}),
    "cpu drafts by emulated": ("cpu", {"platform": "emulated"}),
    "emulated drafts by cpu": ("emulated", {"platform": "cpu"}),
    "cpu on its own": ("cpu", {}),
    "ngram on cpu": ("cpu", None),
    "ngram on strict": ("strict", None),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "small chunks": {"max_num_batched_tokens": 24},
    "few blocks": {"kv_cache_memory": 13 * 16 * 2048},
    "no prefix cache": {"enable_prefix_caching": False},
}


def speculation(models: Models, draft: dict[str, str] | None, count: int = 3) -> dict[str, Any]:
    if draft is None:
        return {"method": "ngram", "num_speculative_tokens": count, "prompt_lookup_min": 1}
    return {"model": models.near, "num_speculative_tokens": count, **draft}


@pytest.fixture(scope="session")
def plain(models: Models) -> Callable[[str], dict[str, Answer]]:
    """Answers without drafts, by the target's platform."""
    known: dict[str, dict[str, Answer]] = {}

    def answers(platform: str) -> dict[str, Answer]:
        if platform not in known:
            known[platform] = run(engine_for(models.target, platform), REQUESTS)
        return known[platform]

    return answers


QUICK = [
    ("cpu drafts by strict", "few blocks"),
    ("strict drafts by cpu", "small chunks"),
    ("ngram on cpu", "as it comes"),
]
SLOW = [(pair, setting) for pair in PAIRS for setting in SETTINGS if (pair, setting) not in QUICK]


@pytest.mark.parametrize(("pair", "setting"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.long) for one in SLOW)])
def test_tokens_are_those_without_drafts(models: Models, plain: Any, pair: str, setting: str) -> None:
    platform, draft = PAIRS[pair]
    options = dict(SETTINGS[setting])
    if draft is not None and "kv_cache_memory" in options and draft.get("platform", platform) == platform:
        options["kv_cache_memory"] *= 2  # the draft model's share
    engine = engine_for(models.target, platform, speculation(models, draft), **options)
    free = engine.stats().num_free_blocks
    assert difference(run(engine, REQUESTS), plain(platform)) is None
    stats = engine.stats()
    print(f"{pair}, {setting}: {stats}")
    assert 0 < stats.num_accepted_tokens < stats.num_draft_tokens
    assert stats.num_free_blocks == free
    assert stats.num_late_captures == 0
    if setting == "few blocks":
        assert stats.num_preemptions > 0
    if setting in ("as it comes", "few blocks"):
        assert stats.num_prefix_hit_tokens > 0


def test_a_draft_model_holds_no_blocks_once_all_is_said(models: Models) -> None:
    engine = engine_for(models.target, "cpu", speculation(models, {"platform": "emulated"}))
    run(engine, REQUESTS[:6])
    drafter: Any = engine._drafter
    held = [table.pool.num_blocks - 1 - table.pool.num_free for table in drafter._blocks.tables]
    assert sum(held) > 0  # of the last sequence, until somebody asks again
    engine.add(EngineRequest("next", [5], SamplingParams(temperature=0, seed=0, max_tokens=9)))
    for _ in range(3):
        engine.step()
    assert [table.pool.num_blocks - 1 - table.pool.num_free for table in drafter._blocks.tables] == [1]


def test_nothing_is_captured_late_on_either_side(models: Models) -> None:
    engine = engine_for(models.target, "strict", speculation(models, {}, 4), forbid_compile=True)
    run(engine, REQUESTS[:8])
    drafter: Any = engine._drafter
    for runner in (engine._executor, drafter._executor):
        assert runner.num_late_captures == runner.usage.misses == 0
        assert runner.usage.launches > 0
    phases = {bucket.query_len for bucket in engine._executor.usage.by_bucket if bucket.phase == "decode"}
    assert 5 in phases


# how many drafts are accepted


def greedy(count: int) -> EngineRequest:
    return EngineRequest("a", [5, 6, 7, 8], SamplingParams(temperature=0, seed=0, max_tokens=count))


@pytest.mark.parametrize("platform", ["cpu", "strict"])
@pytest.mark.parametrize("num_drafts", [1, 4])
def test_a_model_accepts_all_that_it_drafts_itself(models: Models, platform: str, num_drafts: int) -> None:
    rounds = 6
    config = {"model": models.target, "num_speculative_tokens": num_drafts, "platform": platform}
    engine = engine_for(models.target, "cpu", config)
    answer = run(engine, [greedy(1 + rounds * (1 + num_drafts))])["a"]
    stats = engine.stats()
    assert len(answer.token_ids) == 1 + rounds * (1 + num_drafts)
    assert stats.num_steps == 1 + rounds  # the prompt gives the first token
    assert stats.num_draft_tokens == stats.num_accepted_tokens == rounds * num_drafts


def test_the_last_round_drafts_no_more_than_may_be_said(models: Models) -> None:
    config = {"model": models.target, "num_speculative_tokens": 4}
    engine = engine_for(models.target, "cpu", config)
    run(engine, [greedy(1 + 5 + 3)])
    assert (engine.stats().num_steps, engine.stats().num_draft_tokens) == (3, 4 + 2)


def test_another_model_is_rejected_and_a_near_one_often_accepted(models: Models) -> None:
    shares, steps = {}, {}
    for name, model in (("other", models.other), ("near", models.near)):
        engine = engine_for(models.target, "cpu", {"model": model, "num_speculative_tokens": 3})
        run(engine, [greedy(120)])
        stats = engine.stats()
        assert stats.num_steps == 120 - stats.num_accepted_tokens
        shares[name], steps[name] = stats.num_accepted_tokens / stats.num_draft_tokens, stats.num_steps
    print(shares, steps)
    assert shares["other"] < 0.2
    assert 0.4 < shares["near"] < 1
    assert steps["near"] < 60 < 90 < steps["other"]


def test_a_sequence_with_penalties_takes_no_drafts(models: Models) -> None:
    engine = engine_for(models.target, "cpu", {"model": models.target, "num_speculative_tokens": 3})
    sampling = SamplingParams(temperature=0, seed=0, max_tokens=20, frequency_penalty=0.5)
    run(engine, [EngineRequest("a", [5, 6, 7], sampling)])
    assert engine.stats().num_draft_tokens == 0


# faults that the comparison must see


def one_too_many(ids: Any, places: Any, drafts: Any) -> Verified:
    by_row = ids[places]
    accepted = (by_row[:, :-1] == drafts).long().cumprod(1).sum(1)
    accepted = (accepted + 1).minimum((drafts >= 0).sum(1))
    return Verified(accepted + 1, by_row.gather(1, accepted.unsqueeze(1)).squeeze(1))


def without_correction(ids: Any, places: Any, drafts: Any) -> Verified:
    by_row = ids[places]
    accepted = (by_row[:, :-1] == drafts).long().cumprod(1).sum(1)
    kept = accepted.clamp(min=1)
    return Verified(kept, by_row.gather(1, kept.unsqueeze(1) - 1).squeeze(1))


def stale_last_token(ids: Any, places: Any, drafts: Any) -> Verified:
    by_row = ids[places]
    accepted = (by_row[:, :-1] == drafts).long().cumprod(1).sum(1)
    return Verified(accepted + 1, by_row[:, 0])


def any_that_agrees(ids: Any, places: Any, drafts: Any) -> Verified:
    by_row = ids[places]
    accepted = (by_row[:, :-1] == drafts).long().sum(1)
    return Verified(accepted + 1, by_row.gather(1, accepted.unsqueeze(1)).squeeze(1))


def compared(engine: Engine, plain: Any) -> str | None:
    """What a reader of the comparison would be told."""
    try:
        return difference(run(engine, REQUESTS), plain("cpu"))
    except (AssertionError, ValueError) as error:
        return str(error)


class Sporadic:
    """Drafts every other time, so that the steps between read on the device what was sampled last."""

    def __init__(self, drafter: Any) -> None:
        self._drafter, self._is_turn = drafter, True

    def propose(self, needs: DraftNeeds) -> Drafts:
        self._is_turn = not self._is_turn
        return self._drafter.propose(needs) if self._is_turn else Drafts.none(len(needs.slots))


def test_steps_without_drafts_go_on_from_what_was_verified_on_the_device(models: Models, plain: Any) -> None:
    engine = engine_for(models.target, "cpu", speculation(models, {}))
    engine._drafter = Sporadic(engine._drafter)
    assert compared(engine, plain) is None
    assert engine.stats().num_accepted_tokens > 0


@pytest.mark.parametrize("fault", [one_too_many, stale_last_token, any_that_agrees])
def test_a_faulty_verification_gives_other_tokens(
    models: Models, plain: Any, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    engine = engine_for(models.target, "cpu", speculation(models, {}))
    engine._drafter = Sporadic(engine._drafter)
    monkeypatch.setattr(any_size_sampling, "verify", fault)
    assert compared(engine, plain) is not None


def test_a_dropped_correction_is_missed_by_the_count_of_steps(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokens would still be right, a round later: every step must say one token more than it accepted."""
    engine = engine_for(models.target, "cpu", {"model": models.target, "num_speculative_tokens": 4})
    monkeypatch.setattr(any_size_sampling, "verify", without_correction)
    run(engine, [greedy(1 + 6 * 5)])
    assert engine.stats().num_steps > 1 + 6


class Broken:
    """Fails now and then."""

    def __init__(self, drafter: Any) -> None:
        self._drafter, self._num_calls = drafter, 0

    def propose(self, needs: DraftNeeds) -> Drafts:
        self._num_calls += 1
        if self._num_calls % 3 == 1:
            raise RuntimeError("the draft device fell over")
        return self._drafter.propose(needs)


def test_a_step_whose_drafting_fails_runs_without_drafts_and_says_so(
    models: Models, plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_for(models.target, "cpu", speculation(models, None))
    engine._drafter = Broken(engine._drafter)
    assert compared(engine, plain) is None
    assert "sequences failed; their step runs without drafts" in caplog.text
    assert "the draft device fell over" in caplog.text
    assert engine.stats().num_draft_tokens > 0
