"""Who runs next, and what became of it: `schedule()` states a step, `commit()` takes its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import chain

import numpy as np

from jackfield.engine.cached_prefixes import CachedPrefixes
from jackfield.engine.commit import Committer
from jackfield.engine.messages import EngineOutput, EngineOutputs, EngineRequest, EngineStats
from jackfield.engine.prefix_index import agree
from jackfield.engine.rows import InFlight, Rows
from jackfield.engine.running_set import RunningSet
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.sequence import Phase, Sequence
from jackfield.engine.step import Int32s, Start, Step, StepResult
from jackfield.engine.step_draft import PrefillRow, StepDraft
from jackfield.engine.token_budget import TokenBudget
from jackfield.engine.waiting_queue import WaitingQueue
from jackfield.speculation.drafter import DraftNeeds, Drafts

Propose = Callable[[DraftNeeds], Drafts]


class Scheduler:
    """Shares one token budget a step among running sequences, then waiting ones, by priority and arrival.

    `schedule` may be called again before the results of earlier steps are committed, up to `rules.max_in_flight` steps;
    commits come in the order of the steps. Sequences and their blocks are changed here and nowhere else.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        chunk = max(config.hash_unit, config.rules.chunk_multiple)
        chunk -= chunk % config.rules.chunk_multiple
        self.budget = TokenBudget(
            config.max_num_batched_tokens,
            chunk,
            target_seconds=config.target_step_seconds,
            slowdown=config.max_decode_slowdown,
        )
        self._sequences: dict[str, Sequence] = {}
        self._waiting = WaitingQueue()
        self._running = RunningSet(config)
        self.prefixes = CachedPrefixes(config, self._running.blocks)
        self._draft = StepDraft(config, self._running.columns)
        self._committer = Committer(config, self._running, self._waiting)
        self._in_flight: deque[InFlight] = deque()
        self._num_added, self._num_steps, self._num_preemptions = 0, 0, 0
        self._num_queried, self._num_hit = 0, 0
        self._num_proposed = 0
        self._prefilled_last = False
        self._is_short = False  # blocks ran out while this step was put together: admit nobody

    @property
    def has_work(self) -> bool:
        """Whether any sequence waits or runs, or any step is in flight."""
        return bool(self._sequences or self._in_flight)

    @property
    def num_in_flight(self) -> int:
        """Steps scheduled and not yet committed."""
        return len(self._in_flight)

    def add(self, request: EngineRequest) -> None:
        """Queue a request. Raises ValueError, with the numbers, for one that could never be served."""
        if request.id in self._sequences:
            raise ValueError(f"request id {request.id!r} is in use; ids must differ among unfinished requests")
        sequence = Sequence.of(request, self._num_added, max_model_len=self.config.max_model_len)
        objection = self._running.blocks.objection(sequence.limit - 1)  # the last token is never computed
        if objection is not None:
            raise ValueError(f"{objection}; lower max_tokens, shorten the prompt or raise --kv-cache-memory")
        self._num_added += 1
        self._sequences[request.id] = sequence
        self._waiting.add(sequence)

    def abort(self, id: str) -> EngineOutput | None:
        """End a sequence; None for an unknown id: it may have ended by itself meanwhile."""
        sequence = self._sequences.pop(id, None)
        if sequence is None:
            return None
        self._committer.leave(sequence)
        return EngineOutput(id, [], finish_reason="abort", num_cached_tokens=sequence.num_cached)

    def schedule(self, propose: Propose | None = None) -> Step | None:
        """The next step, or None when nothing can run before a commit or a new request.

        `propose` is asked for drafts of the sequences that decode in it.
        """
        rules, draft = self.config.rules, self._draft
        if len(self._in_flight) >= rules.max_in_flight or not self._sequences:
            return None
        draft.clear()
        self._running.blocks.open()
        self._is_short = False
        if rules.mixed:
            self._schedule_decode()
            self._schedule_prefill()
        elif self._prefilled_last:
            self._schedule_decode()
            if draft.is_empty:
                self._schedule_prefill()
        else:
            self._schedule_prefill()
            if draft.is_empty:
                self._schedule_decode()
        if propose is not None and draft.decode.sequences and not self._is_short:
            self._add_drafts(propose)
        return None if draft.is_empty else self._launch()

    def commit(self, step: Step, result: StepResult) -> EngineOutputs:
        """Take the results of the oldest step in flight; results of sequences that ended meanwhile are dropped."""
        record = self._complete(step)
        outputs = self._committer.commit(record, result)
        for output in outputs.others:
            if output.finish_reason is not None:
                del self._sequences[output.id]
        return outputs

    def fail(self, step: Step, error: str) -> EngineOutputs:
        """End the sequences of the oldest step in flight with `error`; all others go on."""
        record = self._complete(step)
        outputs = self._committer.fail(record, error)
        for output in outputs.others:
            del self._sequences[output.id]
        return outputs

    def stats(self) -> EngineStats:
        """A reading of queues, blocks and counters."""
        pools = [table.pool for table in self._running.blocks.tables]
        fullest = min(pools, key=lambda pool: pool.num_free / pool.num_blocks)
        return EngineStats(
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            num_free_blocks=fullest.num_free,
            num_total_blocks=fullest.num_blocks - 1,
            num_steps=self._num_steps,
            num_preemptions=self._num_preemptions,
            num_prefix_queried_tokens=self._num_queried,
            num_prefix_hit_tokens=self._num_hit,
            num_prompt_tokens=self._committer.num_prompt_tokens,
            num_generated_tokens=self._committer.num_generated_tokens,
            num_draft_tokens=self._num_proposed,
            num_accepted_tokens=self._committer.num_accepted_tokens,
        )

    # decode rows

    def _schedule_decode(self) -> None:
        """Put every decoding sequence that has room for one more token into the draft."""
        running, columns = self._running, self._running.columns
        rows = running.decoding.rows
        if not rows.sequences:
            return
        computed: Int32s = columns.num_computed[rows.slots]
        crossings = running.blocks.crossings(rows.slots, computed)
        if not running.blocks.extend(rows.slots, computed, crossings):
            crossing = {rows.sequences[index] for indices in crossings for index in indices.tolist()}
            rows = self._extend_singly(sorted(crossing, key=lambda sequence: sequence.order))
            computed = columns.num_computed[rows.slots]
        after = computed + 1
        columns.num_computed[rows.slots] = after
        draining = (after + 1 >= columns.limits[rows.slots]).nonzero()[0]
        self._draft.decode, self._draft.decode_starts = rows, computed
        if len(draining):
            running.drain([rows.sequences[index] for index in draining.tolist()])

    def _extend_singly(self, crossing: list[Sequence]) -> Rows:
        """Find a block for each sequence that needs one, best first; the rows of all that can run."""
        running, stalled = self._running, set()
        for sequence in crossing:
            if sequence.phase is not Phase.DECODING:
                continue  # preempted for a better one
            computed = int(running.columns.num_computed[sequence.slot])
            if not self._make_room(sequence, computed, computed + 1) and sequence.phase is Phase.DECODING:
                stalled.add(sequence)
        rows = running.decoding.rows
        return rows.at(i for i, sequence in enumerate(rows.sequences) if sequence not in stalled) if stalled else rows

    def _make_room(self, sequence: Sequence, num_computed: int, num_tokens: int) -> bool:
        """Let a sequence hold `num_tokens`, at the cost of worse ones if need be; False if it must wait or was
        preempted.

        A prefilling sequence takes from prefilling ones alone: those that decode may be in this step already.
        """
        running = self._running
        while not running.blocks.grow(sequence.slot, num_computed, num_tokens):
            self._is_short = True
            if running.num_draining or running.blocks.claim(sequence.slot, num_tokens):
                return False  # blocks are about to come back
            decoding = running.decoding.rows.sequences if sequence.phase is Phase.DECODING else []
            victim = max([*running.prefilling, *decoding], key=lambda candidate: candidate.order)
            if victim is sequence and sequence.phase is Phase.PREFILLING:
                return False
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Take everything from a sequence; it waits in its old place, to be computed again."""
        self._running.leave(sequence, Phase.WAITING)
        self._waiting.add(sequence)
        self._num_preemptions += 1

    def _add_drafts(self, propose: Propose) -> None:
        """Let decode rows verify drafts, with the tokens and blocks that nobody else wants: nobody gives way to a
        guess.
        """
        draft, columns = self._draft, self._running.columns
        slots, computed = draft.decode.slots, draft.decode_starts
        known = columns.num_known[slots]
        num_prefill = sum(row.end - row.start for row in draft.prefills)
        share = (self.config.max_num_batched_tokens - num_prefill - len(slots)) // len(slots)
        most = np.minimum(columns.limits[slots] - known - 1, columns.max_drafts[slots]).clip(max=share)
        if not (most > 0).any():
            return
        drafts = propose(DraftNeeds(slots, draft.decode.tenures, known, most, columns.tokens))
        counts = np.minimum(drafts.counts, most)
        for row in np.unique(np.concatenate(self._running.blocks.crossings(slots, computed + counts))).tolist():
            start = int(computed[row]) + 1
            end = start + int(counts[row])
            counts[row] = self._running.blocks.stretch(int(slots[row]), start - 1, end, spare=len(slots)) - start
        if counts.any():
            columns.num_computed[slots] += counts
            draft.add_drafts(counts, drafts.ids)
            self._num_proposed += int(counts.sum())

    # prefill rows

    def _schedule_prefill(self) -> None:
        """Spend what is left of the budget on known tokens, of running sequences first."""
        rules, num_decode = self.config.rules, len(self._draft.decode.sequences)
        limit = self.budget.limit(num_decode) if rules.chunked else self.config.max_num_batched_tokens
        budget = limit - num_decode
        room = rules.max_prefills or self.config.max_num_seqs
        for sequence in list(self._running.prefilling):
            if budget <= 0 or len(self._draft.prefills) >= room:
                return
            if sequence.phase is Phase.PREFILLING:
                budget -= self._continue(sequence, budget)
        while budget > 0 and len(self._draft.prefills) < room and not self._is_short:
            num_new = self._admit_first(budget)
            if num_new == 0:
                return
            budget -= num_new

    def _chunk(self, remaining: int, budget: int) -> int:
        """How many of `remaining` tokens to compute now; 0: none."""
        if remaining <= budget:
            return remaining
        return budget - budget % self.config.rules.chunk_multiple if self.config.rules.chunked else 0

    def _continue(self, sequence: Sequence, budget: int) -> int:
        """The next chunk of a prefilling sequence into the draft; returns its tokens."""
        start = int(self._running.columns.num_computed[sequence.slot])
        num_new = self._chunk(len(sequence.tokens) - start, budget)
        if num_new == 0 or not self._make_room(sequence, start, start + num_new):
            return 0
        self._append(sequence, start, start + num_new)
        return num_new

    def _admit_first(self, budget: int) -> int:
        """The best waiting sequence into a slot and the draft, if it fits; returns the tokens of its first chunk."""
        running = self._running
        if not self._waiting or not running.has_free_slot or self._waiting.first.num_in_flight:
            return 0
        sequence = self._waiting.first
        if not running.adapters.has_room(sequence.request.lora):
            return 0
        known, hit = len(sequence.tokens), running.blocks.match(sequence)
        if self._is_coming(sequence, hit.length):
            return 0
        num_new = self._chunk(known - hit.length, budget)
        if num_new == 0 or not running.blocks.fits(known, hit, promised=running.promised()):
            return 0
        self._waiting.remove(sequence)
        running.enter(sequence, hit)
        if sequence.num_admissions == 1:
            sequence.num_cached = hit.length
            self._num_queried += known
            self._num_hit += hit.length
        grown = running.blocks.grow(sequence.slot, hit.length, hit.length + num_new)
        assert grown, "fits() promised the blocks of the first chunk"
        request = sequence.request
        tokens = sequence.tokens.tobytes()
        self._draft.starts.append(
            Start(
                slot=sequence.slot,
                sampling=request.sampling,
                stop_token_ids=request.stop_token_ids,
                prompt_len=sequence.prompt_len,
                tokens=tokens,
                adapter_slot=sequence.adapter_slot,
                lora=request.lora,
            )
        )
        self._append(sequence, hit.length, hit.length + num_new)
        return num_new

    def _is_coming(self, sequence: Sequence, num_cached: int) -> bool:
        """Whether half of what a waiting sequence lacks, or more, is being computed for others with the same prefix.

        It then waits until that is committed, and finds it in the cache instead of computing it again. Those behind it
        wait, too: nobody takes the slot or the blocks that it would get.
        """
        if self._draft.is_empty and not self._in_flight:
            return False
        lacking = len(sequence.tokens) - num_cached
        shared, unit = num_cached + max(self.config.awaited_prefix, (lacking + 1) // 2), self.config.hash_unit
        here = (row.sequence for row in self._draft.prefills)
        others = chain(self._running.prefilling, here, *(record.prefilled for record in self._in_flight))
        return any(agree(sequence.hashes, other.hashes, shared, unit) for other in others)

    def _append(self, sequence: Sequence, start: int, end: int) -> None:
        samples = end == len(sequence.tokens)
        self._draft.prefills.append(PrefillRow(sequence, start, end, samples))
        self._running.columns.num_computed[sequence.slot] = end
        if samples:
            self._running.finish_prefill(sequence)

    # steps

    def _launch(self) -> Step:
        step, record = self._draft.build(self._num_steps, self._running.blocks.launch(self._num_steps))
        self._prefilled_last = bool(self._draft.prefills)
        self._num_steps += 1
        self._in_flight.append(record)
        return step

    def _complete(self, step: Step) -> InFlight:
        record = self._in_flight.popleft()
        assert record.id == step.id, f"step {step.id} was committed before step {record.id}"
        self._running.blocks.complete(step.id)
        return record
