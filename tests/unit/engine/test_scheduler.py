"""What a step holds, who waits for whom, and what comes back; random histories are in test_scheduler_states."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from jackfield.engine.messages import EngineOutput, EngineRequest, TokenLogprobs
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import SAMPLED_LAST, Step, StepResult
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.capabilities import SchedulingRules

STOP = 99


def config(num_blocks: int = 65, **changes: object) -> SchedulerConfig:
    values = {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 256, **changes}
    return msgspec.convert(
        {"groups": (KVGroup(None, 16, num_blocks),), **values}, SchedulerConfig, from_attributes=True
    )


def request(id: str, length: int = 10, *, priority: int = 0, salt: str = "", **sampling: int) -> EngineRequest:
    prompt = list(range(length))
    params = SamplingParams(**{"max_tokens": 20, **sampling})  # type: ignore[arg-type]
    return EngineRequest(id, prompt, params, frozenset({STOP}), priority, salt)


def answer(step: Step, token: int = 7) -> StepResult:
    return StepResult(np.full(int(step.samples.sum()), token, np.int32))


def run(scheduler: Scheduler, token: int = 7) -> tuple[Step, list[EngineOutput]]:
    step = scheduler.schedule()
    assert step is not None
    return step, list(scheduler.commit(step, answer(step, token)).each())


def test_a_prompt_then_one_token_a_step() -> None:
    scheduler = Scheduler(config())
    scheduler.add(request("a", 5))
    step, outputs = run(scheduler)
    assert (step.num_computed.tolist(), step.num_new.tolist(), step.samples.tolist()) == ([0], [5], [True])
    assert step.tokens.tolist() == [0, 1, 2, 3, 4]
    assert np.frombuffer(step.starts[0].tokens, np.int32).tolist() == [0, 1, 2, 3, 4]
    assert outputs == [EngineOutput("a", [7])]
    step, outputs = run(scheduler)
    assert (step.num_computed.tolist(), step.tokens.tolist(), step.num_decode) == ([5], [SAMPLED_LAST], 1)
    assert (step.starts, outputs) == ((), [EngineOutput("a", [7])])


def test_decode_rows_come_first_and_share_the_budget_with_prefill() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=16))
    scheduler.add(request("a", 5))
    run(scheduler)
    scheduler.add(request("b", 40))
    sizes = [run(scheduler)[0].num_new.tolist() for _ in range(3)]
    assert sizes == [[1, 15], [1, 15], [1, 10]]


def test_a_last_chunk_of_one_token_is_among_the_first_rows_with_its_id() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=8))
    scheduler.add(request("a", 9))
    scheduler.add(request("b", 12))
    run(scheduler)
    step, _ = run(scheduler)
    assert (step.num_new.tolist(), step.num_decode, step.tokens.tolist()) == ([1, 7], 1, [8, *range(7)])


def test_steps_overlap_up_to_the_platforms_depth() -> None:
    scheduler = Scheduler(config(rules=SchedulingRules(max_in_flight=2)))
    scheduler.add(request("a"))
    first, second = scheduler.schedule(), scheduler.schedule()
    assert first is not None
    assert second is not None
    assert second.tokens.tolist() == [SAMPLED_LAST]
    assert scheduler.schedule() is None
    assert scheduler.num_in_flight == 2
    scheduler.commit(first, answer(first))
    assert scheduler.schedule() is not None


def test_nothing_is_scheduled_past_max_tokens_even_while_tokens_are_in_flight() -> None:
    scheduler = Scheduler(config(rules=SchedulingRules(max_in_flight=3)))
    scheduler.add(request("a", max_tokens=2))
    first, second = scheduler.schedule(), scheduler.schedule()
    assert scheduler.schedule() is None
    assert first is not None
    assert second is not None
    scheduler.commit(first, answer(first))
    outputs = scheduler.commit(second, answer(second))
    assert list(outputs.each()) == [EngineOutput("a", [7], finish_reason="length")]
    assert not scheduler.has_work


def test_a_stop_token_ends_a_sequence_and_drops_what_was_in_flight() -> None:
    scheduler = Scheduler(config())
    scheduler.add(request("a"))
    first, second = scheduler.schedule(), scheduler.schedule()
    assert first is not None
    assert second is not None
    outputs = scheduler.commit(first, answer(first, STOP))
    assert list(outputs.each()) == [EngineOutput("a", [STOP], finish_reason="stop", stop_reason=STOP)]
    assert list(scheduler.commit(second, answer(second)).each()) == []
    assert scheduler.stats().num_free_blocks == 64


def test_a_stop_token_before_min_tokens_ends_nothing() -> None:
    scheduler = Scheduler(config())
    scheduler.add(request("a", min_tokens=3))
    reasons = [run(scheduler, STOP)[1][0].finish_reason for _ in range(3)]
    assert reasons == [None, None, "stop"]


def test_the_models_length_ends_a_sequence() -> None:
    scheduler = Scheduler(config(max_model_len=12))
    scheduler.add(request("a", 10))
    assert [run(scheduler)[1][0].finish_reason for _ in range(2)] == [None, "length"]


def test_a_cached_prompt_is_not_computed_again_and_leaves_one_token() -> None:
    scheduler = Scheduler(config())
    scheduler.add(request("a", 48, max_tokens=1))
    run(scheduler)
    scheduler.add(request("b", 48, max_tokens=2))
    step, outputs = run(scheduler)
    assert (step.num_computed.tolist(), step.num_new.tolist()) == ([32], [16])
    assert step.tables[0].positions.tolist() == [0, 1, 2]
    assert outputs == [EngineOutput("b", [7], num_cached_tokens=32)]
    assert run(scheduler)[1] == [EngineOutput("b", [7], finish_reason="length", num_cached_tokens=32)]
    assert (scheduler.stats().num_prefix_queried_tokens, scheduler.stats().num_prefix_hit_tokens) == (96, 32)


@pytest.mark.parametrize("rules", [SchedulingRules(), SchedulingRules(prefix_reuse=False)])
def test_other_salts_and_platforms_without_reuse_compute_everything(rules: SchedulingRules) -> None:
    scheduler = Scheduler(config(rules=rules))
    scheduler.add(request("a", 48, max_tokens=1))
    run(scheduler)
    scheduler.add(request("b", 48, salt="secret" if rules.prefix_reuse else ""))
    assert run(scheduler)[0].num_computed.tolist() == [0]


def spans(step: Step) -> list[tuple[int, int]]:
    """First and last token of each row."""
    return list(zip(step.num_computed.tolist(), (step.num_computed + step.num_new).tolist(), strict=True))


def test_a_prefix_that_is_being_computed_is_waited_for() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=128, awaited_prefix=32, rules=SchedulingRules(max_in_flight=2)))
    for id, length in (("a", 48), ("b", 60), ("c", 40)):
        scheduler.add(request(id, length))
    first, second = scheduler.schedule(), scheduler.schedule()
    assert first is not None
    assert spans(first) == [(0, 48)]
    assert second is not None
    assert spans(second) == [(48, 49)], "what is in flight is waited for, too"
    scheduler.commit(first, answer(first))
    third = scheduler.schedule()
    assert third is not None
    assert spans(third) == [(49, 50), (48, 60), (32, 40)]
    scheduler.commit(second, answer(second))
    scheduler.commit(third, answer(third))
    assert scheduler.stats().num_prefix_hit_tokens == 48 + 32


def test_a_prefix_that_comes_in_chunks_is_waited_for_to_its_end() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=24, awaited_prefix=8))
    for id in ("a", "b"):
        scheduler.add(request(id, 64))
    assert [spans(run(scheduler)[0]) for _ in range(4)] == [[(0, 24)], [(24, 48)], [(48, 64)], [(64, 65), (48, 64)]]


@pytest.mark.parametrize(
    ("changes", "salt"),
    [
        ({"awaited_prefix": 49}, ""),  # too little
        ({"awaited_prefix": 32}, "secret"),
        ({"awaited_prefix": 32, "enable_prefix_caching": False}, ""),
        ({"awaited_prefix": 32, "rules": SchedulingRules(prefix_reuse=False)}, ""),
    ],
)
def test_what_is_not_worth_waiting_for_or_not_shared_is_computed_again(changes: dict[str, object], salt: str) -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=128, **changes))
    scheduler.add(request("a", 48))
    scheduler.add(request("b", 48, salt=salt))
    assert spans(run(scheduler)[0]) == [(0, 48), (0, 48)]


def test_less_than_half_of_a_prompt_is_not_waited_for() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=200, awaited_prefix=32))
    scheduler.add(request("a", 48))
    scheduler.add(request("b", 97))
    assert spans(run(scheduler)[0]) == [(0, 48), (0, 97)]


def test_who_waits_for_a_prefix_goes_on_without_it_when_its_step_fails() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=128, awaited_prefix=32))
    scheduler.add(request("a", 48))
    scheduler.add(request("b", 48))
    step = scheduler.schedule()
    assert step is not None
    scheduler.fail(step, "broken")
    assert spans(run(scheduler)[0]) == [(0, 48)]


def test_lower_priority_numbers_are_served_first_then_arrival() -> None:
    scheduler = Scheduler(config(max_num_seqs=1))
    for id, priority in (("late", 5), ("first", 0), ("second", 0)):
        scheduler.add(request(id, priority=priority, max_tokens=1))
    assert [run(scheduler)[1][0].id for _ in range(3)] == ["first", "second", "late"]


def test_when_blocks_run_out_the_newest_gives_way_and_comes_back_with_all_its_tokens() -> None:
    scheduler = Scheduler(config(num_blocks=6, max_model_len=80, enable_prefix_caching=False))
    for id in ("old", "new"):
        scheduler.add(request(id, 30, max_tokens=40))
    finished, resumed = [], []
    while scheduler.has_work:
        step, outputs = run(scheduler)
        resumed += [start for start in step.starts if len(start.tokens) > 4 * start.prompt_len]
        finished += [output.id for output in outputs if output.finish_reason]
    assert finished == ["old", "new"]
    assert scheduler.stats().num_preemptions == len(resumed) == 1
    assert np.frombuffer(resumed[0].tokens, np.int32).tolist()[30:] == [7] * (len(resumed[0].tokens) // 4 - 30)
    assert scheduler.stats().num_free_blocks == 5


def test_a_failed_step_ends_its_own_sequences_only() -> None:
    scheduler = Scheduler(config(max_num_batched_tokens=10))
    scheduler.add(request("a", 10))
    scheduler.add(request("b", 10))
    step = scheduler.schedule()
    assert step is not None
    assert list(scheduler.fail(step, "boom").each()) == [EngineOutput("a", [], finish_reason="error", error="boom")]
    assert run(scheduler)[1] == [EngineOutput("b", [7])]


def test_aborting_frees_the_blocks_once_the_steps_in_flight_are_done() -> None:
    scheduler = Scheduler(config())
    scheduler.add(request("a", 40))
    step = scheduler.schedule()
    assert step is not None
    assert scheduler.abort("a") == EngineOutput("a", [], finish_reason="abort")
    assert scheduler.abort("a") is None
    assert scheduler.stats().num_free_blocks == 61
    assert list(scheduler.commit(step, answer(step)).each()) == []
    assert (scheduler.stats().num_free_blocks, scheduler.has_work) == (64, False)


def test_blocks_that_left_the_window_are_cleared_and_used_again() -> None:
    scheduler = Scheduler(config(groups=(KVGroup(20, 16, 5),), max_num_batched_tokens=16, enable_prefix_caching=False))
    scheduler.add(request("a", 100))
    steps = [run(scheduler)[0] for _ in range(7)]  # 7 blocks of tokens go through a pool of 4
    clears = [
        position
        for step in steps
        for position, block in zip(step.tables[0].positions, step.tables[0].blocks, strict=True)
        if block == 0
    ]
    assert clears == [0, 1, 2, 3]
    assert max(block for step in steps for block in step.tables[0].blocks) <= 4


def test_platforms_that_do_not_mix_alternate_prefill_and_decode() -> None:
    scheduler = Scheduler(config(rules=SchedulingRules(mixed=False, max_prefills=1)))
    for id in "abc":
        scheduler.add(request(id))
    assert [run(scheduler)[0].num_decode for _ in range(6)] == [0, 1, 0, 2, 0, 3]


def test_whole_prompts_and_chunk_multiples_are_honoured() -> None:
    whole = Scheduler(config(max_num_batched_tokens=300, rules=SchedulingRules(chunked=False)))
    whole.add(request("a", 200))
    whole.add(request("b", 200, salt="not the same"))
    assert [run(whole)[0].num_new.tolist() for _ in range(2)] == [[200], [1, 200]]
    multiple = Scheduler(config(max_num_batched_tokens=50, rules=SchedulingRules(chunk_multiple=32)))
    multiple.add(request("a", 70))
    assert [run(multiple)[0].num_new.tolist() for _ in range(3)] == [[32], [38], [1]]


def test_measured_step_times_bound_the_chunk_beside_running_streams() -> None:
    scheduler = Scheduler(config(target_step_seconds=0.1))
    scheduler.add(request("a"))
    run(scheduler)
    scheduler.budget.observe(num_decode=1, num_prefill=0, seconds=0.01)
    scheduler.budget.observe(num_decode=0, num_prefill=64, seconds=0.01 + 64 * 0.005)
    scheduler.add(request("b", 60))
    assert run(scheduler)[0].num_new.tolist() == [1, 16]


def test_logprobs_travel_with_their_token() -> None:
    scheduler = Scheduler(config())
    scheduler.add(request("a"))
    scheduler.add(request("b"))
    step = scheduler.schedule()
    assert step is not None
    told = TokenLogprobs(-0.5, 1)
    outputs = scheduler.commit(step, StepResult(np.array([3, 4], np.int32), {1: told}))
    assert (outputs.ids, outputs.token_ids) == (["a"], [3])
    assert outputs.others == [EngineOutput("b", [4], logprobs=[told])]


def test_requests_that_can_never_run_are_refused_with_the_numbers() -> None:
    scheduler = Scheduler(config(num_blocks=4, max_model_len=100))
    with pytest.raises(ValueError, match=r"1 to 99 tokens .*got 100"):
        scheduler.add(request("a", 100))
    with pytest.raises(ValueError, match="69 tokens need 5 KV blocks of 16 tokens; group 0 has 3 in all"):
        scheduler.add(request("a", 50))
    scheduler.add(request("a", 20))
    with pytest.raises(ValueError, match="'a' is in use"):
        scheduler.add(request("a", 20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_num_batched_tokens": 3}, r"max_num_batched_tokens \(3\) is less than max_num_seqs \(4\)"),
        ({"rules": SchedulingRules(chunked=False)}, r"\(64\) is less than max_model_len \(256\)"),
        ({"rules": SchedulingRules(chunk_multiple=128)}, "multiples of 128"),
        ({"hash_unit": 5}, "block_size 16 is not a multiple of hash_unit 5"),
        ({"groups": ()}, "at least one KVGroup"),
    ],
)
def test_limits_that_do_not_fit_together_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
