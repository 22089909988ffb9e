"""A second model that drafts, on a platform object of its own: its own runner, KV groups and blocks."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield.engine.kv_blocks import KVBlocks
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.step import SAMPLED_LAST, Executor, Int32s, Pending, Start, Step
from jackfield.sampling_params import SamplingParams
from jackfield.speculation.drafter import DraftNeeds, Drafts

_GREEDY = SamplingParams(temperature=0.0, seed=0)
_NOBODY = -1
Slots = npt.NDArray[np.intp]


class _Chunk(NamedTuple):
    """Known tokens `start : end` of row `row`, which the draft model has not computed yet."""

    row: int
    start: int
    end: int
    samples: bool


class _InFlight(NamedTuple):
    """A step of the draft model that samples draft `number` of `rows`."""

    id: int
    pending: Pending
    rows: Slots
    number: int


class ModelDrafter:
    """Continues each sequence greedily with the draft model, which `executor` runs.

    It remembers which tokens it has computed, and goes on from the first that is another one now: rejected drafts are
    computed over. A call catches up by at most `max_num_batched_tokens`, so that a long prompt holds nobody up. A
    sequence that is not caught up, or for which blocks lack, takes no drafts; blocks come back when it stops decoding.
    """

    def __init__(self, executor: Executor, config: SchedulerConfig, *, num_drafts: int) -> None:
        self._executor, self._config, self._num_drafts = executor, config, num_drafts
        self._num_steps = 0
        self._forget_all()

    def propose(self, needs: DraftNeeds) -> Drafts:
        """Catch up with what is known by now, then draft token by token. Ids are read once they are all on their
        way, as far as the platform lets steps overlap.
        """
        try:
            return self._propose(needs)
        except Exception:
            self._forget_all()  # who knows what the failed step computed
            raise

    def _propose(self, needs: DraftNeeds) -> Drafts:
        self._follow(needs)
        room = self._config.max_model_len + 1 - needs.num_known  # the last draft is not computed
        counts = np.minimum(needs.max_drafts, room).clip(0, self._num_drafts)
        self._ids = self._blank(len(counts))
        chunks = self._chunks(needs, counts)
        for part in self._launches(chunks):
            self._catch_up(needs, part)
        rows = np.array(sorted(chunk.row for chunk in chunks if chunk.samples), np.intp)
        drafts = np.zeros_like(counts)
        drafts[rows] = counts[rows]
        for number in range(1, int(drafts.max(initial=0))):
            self._continue(needs.slots, (drafts > number).nonzero()[0], number)
        while self._pending:
            self._finish()
        of, place = (np.arange(self._num_drafts) < drafts[:, None] - 1).nonzero()  # all but the last were computed too
        self._tokens[needs.slots[of], needs.num_known[of] + place] = self._ids[of, place]
        return Drafts(drafts, self._ids)

    def _forget_all(self) -> None:
        config = self._config
        self._blocks = KVBlocks(config)
        self._tenures = np.full(config.max_num_seqs, _NOBODY, np.int64)
        self._computed = np.zeros(config.max_num_seqs, np.int32)  # tokens that the draft model's cache holds
        self._tokens = np.zeros((config.max_num_seqs, config.max_model_len), np.int32)  # ... and which those are
        self._pending: deque[_InFlight] = deque()
        self._ids = self._blank(0)

    def _blank(self, num_rows: int) -> Int32s:
        return np.zeros((num_rows, self._num_drafts), np.int32)

    def _follow(self, needs: DraftNeeds) -> None:
        """Let go of slots that changed hands, and find out how much of what was computed still holds."""
        now = np.full_like(self._tenures, _NOBODY)
        now[needs.slots] = needs.tenures
        for slot in ((self._tenures != now) & (self._tenures != _NOBODY)).nonzero()[0].tolist():
            self._blocks.release(slot)
            self._tenures[slot], self._computed[slot] = _NOBODY, 0
        slots = needs.slots
        ends = np.minimum(self._computed[slots], needs.num_known - 1)  # the last known token gives the next's logits
        places = ends[:, None] - np.arange(self._num_drafts, 0, -1)  # what came before them were no guesses
        by_slot = slots[:, None], places
        is_wrong = (self._tokens[by_slot] != needs.tokens[by_slot]) & (places >= 0)
        first = places[np.arange(len(slots)), is_wrong.argmax(1)]
        self._computed[slots] = np.where(is_wrong.any(1), first, ends)

    def _chunks(self, needs: DraftNeeds, counts: Int32s) -> list[_Chunk]:
        """What to compute before the first draft: within the step's tokens, the platform's rules and the blocks."""
        rules, room = self._config.rules, self._config.max_num_batched_tokens
        prefills = rules.max_prefills or len(counts)
        chunks = []
        for row in (counts > 0).nonzero()[0].tolist():
            slot, known = int(needs.slots[row]), int(needs.num_known[row])
            start = int(self._computed[slot])
            length = known - start if known - start <= room else room - room % rules.chunk_multiple
            end, is_prefill = start + length, length > 1
            samples = end == known
            reach = end + int(counts[row]) - 1 if samples else end
            if not length or (is_prefill and not prefills) or not self._blocks.grow(slot, start, reach):
                continue
            room, prefills = room - length, prefills - is_prefill
            chunks.append(_Chunk(row, start, end, samples))
        return chunks

    def _launches(self, chunks: list[_Chunk]) -> list[list[_Chunk]]:
        """One-token rows first, and in a step of their own where the platform does not mix."""
        single = [chunk for chunk in chunks if chunk.end - chunk.start == 1]
        longer = [chunk for chunk in chunks if chunk.end - chunk.start > 1]
        return [part for part in ([single + longer] if self._config.rules.mixed else [single, longer]) if part]

    def _catch_up(self, needs: DraftNeeds, chunks: list[_Chunk]) -> None:
        rows = np.array([chunk.row for chunk in chunks], np.intp)
        slots = needs.slots[rows]
        starts = tuple(
            Start(slot, _GREEDY, frozenset(), prompt_len=0, tokens=b"")
            for slot in slots[self._tenures[slots] == _NOBODY].tolist()
        )
        self._tenures[slots] = needs.tenures[rows]
        ids = [needs.tokens[slot, chunk.start : chunk.end] for slot, chunk in zip(slots, chunks, strict=True)]
        for slot, chunk, known in zip(slots, chunks, ids, strict=True):
            self._tokens[slot, chunk.start : chunk.end] = known
        num_new = np.array([len(known) for known in ids], np.int32)
        samples = np.array([chunk.samples for chunk in chunks], np.bool_)
        step = self._step(slots, num_new, np.concatenate(ids))
        self._launch(msgspec.structs.replace(step, samples=samples, starts=starts), rows[samples], 0)

    def _continue(self, slots: Slots, rows: Slots, number: int) -> None:
        """Compute each row's draft before draft `number`, which is sampled."""
        ones = np.ones(len(rows), np.int32)
        self._launch(self._step(slots[rows], ones, np.full(len(rows), SAMPLED_LAST, np.int32)), rows, number)

    def _step(self, slots: Slots, num_new: Int32s, tokens: Int32s) -> Step:
        """A step in which all rows sample; they are computed from here on."""
        self._num_steps += 1
        one_token = int(np.count_nonzero(num_new == 1))
        computed = self._computed[slots]
        self._computed[slots] = computed + num_new
        return Step(
            id=self._num_steps,
            slots=slots.astype(np.int32),
            num_computed=computed,
            num_new=num_new,
            samples=np.ones(len(slots), np.bool_),
            tokens=tokens,
            num_decode=one_token,
            tables=self._blocks.launch(self._num_steps),
        )

    def _launch(self, step: Step, rows: Slots, number: int) -> None:
        """Run a step that samples draft `number` of `rows`, once the platform may hold another one."""
        while len(self._pending) >= self._config.rules.max_in_flight:
            self._finish()
        pending = self._executor.sample(self._executor.launch(step))
        self._pending.append(_InFlight(step.id, pending, rows, number))

    def _finish(self) -> None:
        """Read the oldest step in flight."""
        done = self._pending.popleft()
        self._ids[done.rows, done.number] = done.pending.wait().token_ids
        self._blocks.complete(done.id)
