"""What the results of a step do to its sequences: new tokens, cached blocks, ends."""

from __future__ import annotations

from operator import contains

import numpy as np

from jackfield.engine.messages import EngineOutput, EngineOutputs, FinishReason, TokenLogprobs
from jackfield.engine.rows import InFlight, Rows
from jackfield.engine.running_set import RunningSet
from jackfield.engine.runs import Run, at, check_result, runs_of
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.sequence import Phase, Sequence
from jackfield.engine.step import Int32s, StepResult
from jackfield.engine.waiting_queue import WaitingQueue


class Committer:
    """Appends sampled tokens and ends sequences. The common case, one plain token a row, costs no Python per row but
    the stop check.
    """

    def __init__(self, config: SchedulerConfig, running: RunningSet, waiting: WaitingQueue) -> None:
        self._running, self._waiting = running, waiting
        self._caches_prefixes, self._unit = config.caches_prefixes, config.hash_unit
        self.num_prompt_tokens, self.num_generated_tokens, self.num_accepted_tokens = 0, 0, 0

    def commit(self, record: InFlight, result: StepResult) -> EngineOutputs:
        """Outputs of a step. Rows whose slot has changed hands belong to sequences that ended or were preempted
        meanwhile.
        """
        rows, sampled = record.rows, record.sampled
        check_result(record, result)
        if result.counts is not None:
            self.num_accepted_tokens += len(result.token_ids) - len(result.counts)
        stale: list[EngineOutput] = []
        tenures = self._running.columns.tenures
        current = tenures[rows.slots] == rows.tenures
        if not current.all():
            kept = (tenures[sampled.slots] == sampled.tenures).nonzero()[0].tolist()
            stale = self._commit_stale(record, set(kept), result)
            result = at(result, kept)
            record = InFlight(record.id, rows.at(current.nonzero()[0].tolist()), record.ends[current], sampled.at(kept))
        outputs = self._commit_current(record, result) if result.counts is None else self._commit_runs(record, result)
        outputs.others.extend(stale)
        return outputs

    def fail(self, record: InFlight, error: str) -> EngineOutputs:
        """Ends of all sequences of a step, but those that no longer depend on it."""
        tenures, outputs = self._running.columns.tenures, []
        awaited = set(record.sampled.sequences)
        for sequence, slot, tenure in zip(record.rows.sequences, record.rows.slots, record.rows.tenures, strict=True):
            if tenures[slot] == tenure or (sequence in awaited and sequence.phase is Phase.WAITING):
                self.leave(sequence)
                cached = sequence.num_cached
                outputs.append(
                    EngineOutput(sequence.request.id, [], finish_reason="error", error=error, num_cached_tokens=cached)
                )
        return EngineOutputs(others=outputs)

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out of wherever it is, for good."""
        if sequence.phase is Phase.WAITING:
            self._waiting.remove(sequence)
            sequence.phase = Phase.FINISHED
        else:
            self._running.leave(sequence, Phase.FINISHED)

    def _commit_current(self, record: InFlight, result: StepResult) -> EngineOutputs:
        columns, rows = self._running.columns, record.sampled
        tokens: list[int] = result.token_ids.tolist()
        known = columns.num_known[rows.slots]
        columns.tokens[rows.slots, known] = result.token_ids
        known += 1
        columns.num_known[rows.slots] = known
        self.num_generated_tokens += len(tokens)
        if self._caches_prefixes:
            self._remember(record)
        special = set((known >= columns.limits[rows.slots]).nonzero()[0].tolist())
        stops = list(map(contains, rows.stop_token_ids, tokens))
        if True in stops:
            special.update(index for index, is_stop in enumerate(stops) if is_stop)
        if record.rows is not rows:  # first tokens come from prefill rows
            special.update(self._firsts(rows, known))
        special.update(result.logprobs)
        if not special:
            return EngineOutputs(rows.ids, tokens, [])
        others = [
            self._output(rows.sequences[index], int(known[index]), Run([tokens[index]], _listed(result, index)))
            for index in sorted(special)
        ]
        plain = [index for index in range(len(tokens)) if index not in special]
        return EngineOutputs([rows.ids[index] for index in plain], [tokens[index] for index in plain], others)

    def _commit_runs(self, record: InFlight, result: StepResult) -> EngineOutputs:
        """As `_commit_current`, where rows may have yielded several tokens. No later step is in flight then."""
        columns, rows, kept = self._running.columns, record.sampled, []
        for sequence, run in zip(rows.sequences, runs_of(result), strict=True):
            known = int(columns.num_known[sequence.slot])
            kept.append(self._until_end(sequence, known, run))
            after = known + len(kept[-1].tokens)
            columns.tokens[sequence.slot, known:after] = kept[-1].tokens
            columns.num_known[sequence.slot] = after
            columns.num_computed[sequence.slot] = after - 1  # what drafts computed behind it is computed over
        known_now = columns.num_known[rows.slots]
        if self._caches_prefixes:
            self._remember(record._replace(ends=columns.num_computed[record.rows.slots]))
        self._firsts(rows, known_now)
        rest = zip(rows.sequences, known_now.tolist(), kept, strict=True)
        return EngineOutputs(others=[self._output(sequence, known, run) for sequence, known, run in rest])

    def _until_end(self, sequence: Sequence, known: int, run: Run) -> Run:
        """The tokens up to the one that ends the sequence, which has `known` before them."""
        places = range(1, len(run.tokens) + 1)
        ends = (place for place in places if self._end(sequence, known + place, run.tokens[place - 1])[0])
        kept = run.first(next(ends, len(run.tokens)))
        self.num_generated_tokens += len(kept.tokens)
        return kept

    def _firsts(self, rows: Rows, known: Int32s) -> list[int]:
        """Indices of first tokens whose prompt was partly cached; counts prompts on the way."""
        indices: list[int] = (known == self._running.columns.first_lens[rows.slots]).nonzero()[0].tolist()
        self.num_prompt_tokens += sum(rows.sequences[index].prompt_len for index in indices)
        return [index for index in indices if rows.sequences[index].num_cached]

    def _output(self, sequence: Sequence, known: int, run: Run) -> EngineOutput:
        """The tokens of a sequence that is now `known` tokens long, ending it where that is due."""
        reason, stop = self._end(sequence, known, run.tokens[-1])
        if reason is not None:
            self.leave(sequence)
        says_cached = reason is not None or known == sequence.prompt_len + 1
        return EngineOutput(
            sequence.request.id,
            run.tokens,
            logprobs=run.logprobs or None,
            finish_reason=reason,
            stop_reason=stop,
            num_cached_tokens=sequence.num_cached if says_cached else 0,
        )

    def _end(self, sequence: Sequence, known: int, token: int) -> tuple[FinishReason | None, int | None]:
        request = sequence.request
        if token in request.stop_token_ids and known - sequence.prompt_len >= request.sampling.min_tokens:
            return "stop", token
        return ("length" if known >= sequence.limit else None), None

    def _commit_stale(self, record: InFlight, current: set[int], result: StepResult) -> list[EngineOutput]:
        """Tokens of sequences that lost their slot: still valid samples for those that were preempted."""
        outputs = []
        for index, (sequence, run) in enumerate(zip(record.sampled.sequences, runs_of(result), strict=True)):
            if index in current or sequence.phase is not Phase.WAITING:
                continue
            known = len(sequence.tokens)
            kept = self._until_end(sequence, known, run)
            sequence.tokens = np.append(sequence.tokens, np.array(kept.tokens, np.int32))
            sequence.num_in_flight -= 1 if record.num_drafts is None else 1 + int(record.num_drafts[index])
            if known == sequence.prompt_len:
                self.num_prompt_tokens += sequence.prompt_len
            outputs.append(self._output(sequence, len(sequence.tokens), kept))
        return outputs

    def _remember(self, record: InFlight) -> None:
        """Index the blocks that the step filled. Their tokens are known now, and nothing else will write them."""
        columns, rows, unit = self._running.columns, record.rows, self._unit
        slots = rows.slots
        for index in (record.ends - columns.num_indexed[slots] >= unit).nonzero()[0].tolist():
            sequence, slot, end = rows.sequences[index], slots[index], record.ends[index]
            start = int(columns.num_indexed[slot])
            columns.num_indexed[slot] = self._running.blocks.remember(sequence, columns.tokens[slot, :end], start)


def _listed(result: StepResult, index: int) -> list[TokenLogprobs]:
    logprobs = result.logprobs.get(index)
    return [] if logprobs is None else [logprobs]
