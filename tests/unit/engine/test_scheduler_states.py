"""Random histories of add, schedule, commit, fail, abort, preempt against a device that knows what blocks must hold."""

from __future__ import annotations

from collections import Counter, deque
from typing import ClassVar

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from modelled_device import MAX_MODEL_LEN, VOCABULARY, ModelledDevice, PartlyRight, history_hash, next_token

from jackfield.engine.commit import Committer
from jackfield.engine.messages import EngineOutput, EngineOutputs, EngineRequest
from jackfield.engine.prefix_index import extend_hashes
from jackfield.engine.rows import InFlight
from jackfield.engine.runs import Run
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.sequence import Phase, Sequence
from jackfield.engine.step import SAMPLED_LAST, Step, StepResult
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.capabilities import SchedulingRules

STOP = VOCABULARY - 1
SALTS = ("", "other")


def answer(request: EngineRequest) -> tuple[list[int], str]:
    """The whole answer to a request and why it ends, from the definition."""
    tokens, sampling = list(request.prompt_token_ids), request.sampling
    most = min(len(tokens) + (sampling.max_tokens or MAX_MODEL_LEN), MAX_MODEL_LEN)
    start = len(tokens)
    while True:
        tokens.append(next_token(tokens))
        if tokens[-1] in request.stop_token_ids and len(tokens) - start >= sampling.min_tokens:
            return tokens[start:], "stop"
        if len(tokens) == most:
            return tokens[start:], "length"


class SchedulerStates(RuleBasedStateMachine):
    """The scheduler beside a plain list of what was asked and what came back."""

    totals: ClassVar[Counter[str]] = Counter()

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        draw = data.draw
        chunked = draw(st.booleans())
        num_drafts = draw(st.sampled_from((0, 0, 1, 3, 6)))
        chunked = chunked or num_drafts > 0
        rules = SchedulingRules(
            mixed=draw(st.booleans()),
            chunked=chunked,
            max_prefills=draw(st.sampled_from((None, 1, 2))),
            chunk_multiple=draw(st.sampled_from((1, 1, 4))),
            prefix_reuse=draw(st.sampled_from((True, True, False))),
            max_in_flight=1 if num_drafts else draw(st.integers(1, 3)),
        )
        seed = draw(st.integers(0, 1 << 30))
        groups = [KVGroup(None, draw(st.sampled_from((4, 8))), draw(st.integers(12, 18)))]
        if draw(st.booleans()):
            groups.append(
                KVGroup(draw(st.sampled_from((1, 6, 10, 11))), draw(st.sampled_from((4, 8))), draw(st.integers(12, 18)))
            )
        self.config = SchedulerConfig(
            max_num_seqs=draw(st.integers(2, 6)),
            max_num_batched_tokens=draw(st.integers(9, 40)) if chunked else MAX_MODEL_LEN,
            max_model_len=MAX_MODEL_LEN,
            groups=tuple(groups),
            rules=rules,
            num_drafts=num_drafts,
            hash_unit=4,
            awaited_prefix=draw(st.sampled_from((4, 8, 128))),
        )
        self.scheduler = Scheduler(self.config)
        is_coming = self.scheduler._is_coming

        def counted(sequence: Sequence, num_cached: int) -> bool:
            waits = is_coming(sequence, num_cached)
            self.totals["waited for a prefix"] += waits
            return waits

        self.scheduler._is_coming = counted  # type: ignore[method-assign]
        self.device = ModelledDevice(self.config)
        self.drafter = PartlyRight(self.device, num_drafts, seed)
        self.pending: deque[tuple[Step, StepResult]] = deque()
        self.requests: dict[str, EngineRequest] = {}
        self.received: dict[str, list[int]] = {}
        self.num_requests, self.num_forced = 0, 0

    @rule(
        length=st.integers(0, 20), head=st.integers(0, 2), max_tokens=st.integers(1, 40), min_tokens=st.integers(0, 3),
        priority=st.integers(0, 2), salt=st.sampled_from(SALTS),
    )  # fmt: skip
    def add(self, length: int, head: int, max_tokens: int, min_tokens: int, priority: int, salt: str) -> None:
        prompt = [head] * 4 + [i * i % VOCABULARY for i in range(length)]
        sampling = SamplingParams(max_tokens=max_tokens, min_tokens=min(min_tokens, max_tokens))
        self.submit(EngineRequest(str(self.num_requests), prompt, sampling, frozenset({STOP}), priority, salt))

    @precondition(lambda self: self.requests)
    @rule(number=st.integers(0, 10), length=st.integers(0, 40))
    def add_follow_up(self, number: int, length: int) -> None:
        """Another prompt that begins with an earlier one and the answer to it, finished or not."""
        earlier = list(self.requests.values())[number % len(self.requests)]
        prompt = (earlier.prompt_token_ids + answer(earlier)[0])[: max(1, min(length, MAX_MODEL_LEN - 6))]
        sampling = SamplingParams(max_tokens=6)
        self.submit(EngineRequest(str(self.num_requests), prompt, sampling, cache_salt=earlier.cache_salt))

    def submit(self, request: EngineRequest) -> None:
        self.num_requests += 1
        self.requests[request.id], self.received[request.id] = request, []
        self.scheduler.add(request)

    @rule()
    def schedule(self) -> None:
        step = self.scheduler.schedule(self.drafter.propose if self.config.num_drafts else None)
        if step is None:
            assert self.pending or not self.requests, "nothing runs although sequences wait and nothing is in flight"
            return
        self.check_rules(step)
        self.pending.append((step, self.device.launch(step)))
        self.totals["steps"] += 1
        self.totals["overlapped steps"] += len(self.pending) > 1
        if step.num_drafts is not None:
            num_rows = int(step.samples.sum())
            accepted = len(self.pending[-1][1].token_ids) - num_rows
            self.totals["accepted drafts"] += accepted
            self.totals["rejected drafts"] += int(step.num_drafts.sum()) - accepted

    @rule(num_steps=st.integers(2, 12))
    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            before = len(self.pending)
            self.schedule()
            if self.pending and len(self.pending) in (before, self.config.rules.max_in_flight):
                self.commit()
            self.blocks_have_exactly_their_owners()

    @precondition(lambda self: self.pending)
    @rule()
    def commit(self) -> None:
        step, result = self.pending.popleft()
        self.device.complete()
        for output in self.scheduler.commit(step, result).each():
            self.take(output)
        if result.counts is not None:
            for sequence in self.scheduler._sequences.values():
                if sequence.slot >= 0:
                    self.index_holds_no_rejected_token(sequence)

    @precondition(lambda self: self.pending)
    @rule(often=st.integers(0, 3))
    def fail(self, often: int) -> None:
        if often:
            return self.commit()
        step, _ = self.pending.popleft()
        self.device.complete(failed=True)
        for output in self.scheduler.fail(step, "the device is on fire").each():
            assert (output.finish_reason, output.error) == ("error", "the device is on fire")
            del self.requests[output.id]
            self.totals["failed"] += 1

    @rule(number=st.integers(0, 200))
    def abort(self, number: int) -> None:
        ids = sorted(self.requests, key=int)
        if number % 3 or not ids:
            assert self.scheduler.abort("never seen") is None
            return
        output = self.scheduler.abort(ids[number % len(ids)])
        assert output is not None
        assert output.finish_reason == "abort"
        del self.requests[output.id]
        self.totals["aborted"] += 1

    @rule(number=st.integers(0, 50))
    def preempt(self, number: int) -> None:
        running = [s for s in self.scheduler._sequences.values() if s.phase in (Phase.PREFILLING, Phase.DECODING)]
        if running:
            self.scheduler._preempt(running[number % len(running)])
            self.num_forced += 1

    @rule(num_prefill=st.integers(0, 30), seconds=st.floats(0.001, 3))
    def observe(self, num_prefill: int, seconds: float) -> None:
        self.scheduler.budget.observe(num_decode=2, num_prefill=num_prefill, seconds=seconds)

    def take(self, output: EngineOutput) -> None:
        self.received[output.id] += output.token_ids
        tokens, reason = answer(self.requests[output.id])
        assert self.received[output.id] == tokens[: len(self.received[output.id])]
        if output.finish_reason is None:
            assert len(self.received[output.id]) < len(tokens)
        else:
            assert (self.received[output.id], output.finish_reason) == (tokens, reason)
            assert output.stop_reason == (STOP if reason == "stop" else None)
            del self.requests[output.id]
            self.totals["finished"] += 1

    def check_rules(self, step: Step) -> None:
        rules, decode = self.config.rules, step.num_decode
        assert step.id == self.scheduler._num_steps - 1
        assert 0 < step.num_tokens == step.num_new.sum() <= self.config.max_num_batched_tokens
        assert len(set(step.slots.tolist())) == step.num_rows
        drafts = np.zeros(step.num_rows, int) if step.num_drafts is None else step.num_drafts
        assert (step.num_new[:decode] == 1 + drafts[:decode]).all()
        assert not drafts[decode:].any()
        assert step.num_drafts is None or drafts.any()
        prefilled = [*range(len(self.scheduler._draft.decode.sequences), step.num_rows)]
        assert step.num_drafts is not None or all(
            self.is_sampled_last(step, row) != (row in prefilled) for row in range(step.num_rows)
        )
        assert len(prefilled) <= (rules.max_prefills or self.config.max_num_seqs)
        if rules.mixed:
            assert (step.num_new[decode:] > 1).all()
        else:
            assert decode in (0, step.num_rows)
        for row in prefilled:
            if not step.samples[row]:
                assert rules.chunked
                assert step.num_new[row] % rules.chunk_multiple == 0
        if not rules.prefix_reuse:
            assert all(step.num_computed[list(step.slots).index(start.slot)] == 0 for start in step.starts)

    @staticmethod
    def is_sampled_last(step: Step, row: int) -> bool:
        return bool(step.tokens[step.num_new[:row].sum()] == SAMPLED_LAST)

    @invariant()
    def blocks_have_exactly_their_owners(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        scheduler = self.scheduler
        assert scheduler.num_in_flight == len(self.pending) <= self.config.rules.max_in_flight
        live = [s for s in scheduler._sequences.values() if s.slot >= 0]
        assert all(s.num_in_flight == 0 for s in live), "resumed before the tokens that were in flight came back"
        assert len({s.slot for s in live}) == len(live) == len(scheduler._running)
        for table in scheduler._running.blocks.tables:
            owners = Counter(block for _, blocks in table._waiting for block in blocks)
            assert sum(owners.values()) == table.num_waiting
            shared: dict[int, list[bool]] = {}
            for sequence in live:
                blocks = table.table[sequence.slot, : table.capacity[sequence.slot] // table.block_size].tolist()
                computed = int(scheduler._running.columns.num_computed[sequence.slot])
                for position, block in enumerate(blocks):
                    if block:
                        owners[block] += 1
                        shared.setdefault(block, []).append((position + 1) * table.block_size <= computed)
            assert all(len(full) == 1 or all(full) for full in shared.values()), "a block that fills has two owners"
            references = {block: table.pool.references(block) for block in range(1, table.pool.num_blocks)}
            assert owners == Counter({block: count for block, count in references.items() if count})
            free = table.pool.free_blocks()
            assert sorted(free) == [block for block, count in references.items() if not count]
            assert len(free) == table.pool.num_free
            assert all(table.index._keys[block] == key for key, block in table.index._blocks.items())

    def index_holds_no_rejected_token(self, sequence: Sequence) -> None:
        """The prefix index knows a running sequence's blocks by its own tokens, and holds what they compute to."""
        columns = self.scheduler._running.columns
        known = columns.tokens[sequence.slot, : columns.num_known[sequence.slot]]
        digests: list[bytes] = []
        extend_hashes(digests, sequence.root, known, self.config.hash_unit)
        for number, table in enumerate(self.scheduler._running.blocks.tables):
            contents, size = self.device.contents[number], table.block_size
            blocks = table.table[sequence.slot, : table.capacity[sequence.slot] // size].tolist()
            for position, block in enumerate(blocks):
                key = table.index._keys[block]
                if block and key is not None:
                    end = (position + 1) * size
                    assert end <= len(known), "a block that is not full of known tokens is indexed"
                    assert key == digests[end // self.config.hash_unit - 1]
                    held = [contents[block, place][0] for place in range(size)]
                    history = known.tolist()
                    assert held == [history_hash(history[: seen + 1]) for seen in range(end - size, end)]
                    self.totals["indexed blocks looked into"] += 1

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for _ in range(20_000):
            if not self.scheduler.has_work:
                break
            self.run(1)
        assert not self.requests
        assert not self.scheduler.has_work
        for table in self.scheduler._running.blocks.tables:
            assert table.pool.num_free == table.pool.num_blocks - 1
        stats = self.scheduler.stats()
        assert (stats.num_running, stats.num_waiting) == (0, 0)
        self.totals["preempted by force"] += self.num_forced
        self.totals["preempted for blocks"] += stats.num_preemptions - self.num_forced
        self.totals["prefix-hit tokens"] += stats.num_prefix_hit_tokens


def run_histories(
    max_examples: int, step_count: int, *, derandomize: bool, shrinks: bool = True, seed: int | None = None
) -> Counter[str]:
    """What happened in that many random histories; every prefix hit in them was compared with recomputed content."""

    class Counted(SchedulerStates):
        totals: ClassVar[Counter[str]] = Counter()

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    profile = settings(
        max_examples=max_examples, stateful_step_count=step_count, deadline=None, derandomize=derandomize,
        database=None, suppress_health_check=checks, phases=list(Stage) if shrinks else [Stage.generate],
    )  # fmt: skip
    run_state_machine_as_test(Counted if seed is None else hypothesis.seed(seed)(Counted), settings=profile)
    print(dict(Counted.totals))
    return Counted.totals


def test_random_histories_keep_every_promise() -> None:
    events = (
        "overlapped steps",
        "preempted for blocks",
        "preempted by force",
        "prefix-hit tokens",
        "failed",
        "aborted",
        "waited for a prefix",
    )
    drafts = "accepted drafts", "rejected drafts", "indexed blocks looked into"
    totals: Counter[str] = Counter()
    # what hypothesis draws depends on the modules that are loaded: a round may hold a third of another's events
    for number in range(10):
        totals += run_histories(150, 50, derandomize=False, seed=number)
        if totals["steps"] > 3_000 and all(totals[event] >= 10 for event in events + drafts):
            return
    raise AssertionError(f"the histories hold too few of: {[event for event in events + drafts if totals[event] < 10]}")


@pytest.mark.long
def test_many_random_histories_keep_every_promise() -> None:
    totals = run_histories(3_000, 120, derandomize=False)
    assert totals["steps"] > 100_000


right_commit, right_remember = Committer._commit_runs, Committer._remember


def index_what_was_scheduled(self: Committer, record: InFlight, result: StepResult) -> EngineOutputs:
    """A fault: blocks go into the prefix index with the drafts that were rejected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self, "_remember", lambda _: right_remember(self, record))
        return right_commit(self, record, result)


def keep_what_was_scheduled(self: Committer, record: InFlight, result: StepResult) -> EngineOutputs:
    """A fault: rejected drafts count as computed."""
    slots = record.rows.slots
    scheduled = self._running.columns.num_computed[slots]
    outputs = right_commit(self, record, result)
    self._running.columns.num_computed[slots] = scheduled
    return outputs


def forget_the_end(self: Committer, sequence: Sequence, known: int, run: Run) -> Run:
    """A fault: tokens behind a stop are kept."""
    return run


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_commit_runs", index_what_was_scheduled),
        ("_commit_runs", keep_what_was_scheduled),
        ("_until_end", forget_the_end),
    ],
)
def test_a_fault_about_drafts_breaks_a_promise(monkeypatch: pytest.MonkeyPatch, name: str, fault: object) -> None:
    monkeypatch.setattr(Committer, name, fault)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        run_histories(400, 40, derandomize=True, shrinks=False)  # most end at the first that breaks one, within 60
