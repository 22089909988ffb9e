"""A device that knows what blocks must hold, what it samples by definition, and drafts that are right for a while."""

from __future__ import annotations

import random
from collections import Counter, deque
from zlib import crc32

import numpy as np

from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.step import SAMPLED_LAST, Step, StepResult
from jackfield.speculation.drafter import DraftNeeds, Drafts

VOCABULARY = 31
MAX_MODEL_LEN = 44


def history_hash(tokens: list[int]) -> int:
    """What a block must hold for the last of `tokens`: keys and values depend on the whole history."""
    return crc32(np.array(tokens, np.int32).tobytes())


def next_token(tokens: list[int]) -> int:
    """What the modelled device samples after `tokens`."""
    return history_hash([*tokens, 1]) % VOCABULARY


def verified(history: list[int], drafts: list[int]) -> list[int]:
    """What a row yields: the drafts that the device would have sampled, then the token behind them."""
    run = []
    for draft in drafts:
        run.append(next_token([*history, *run]))
        if run[-1] != draft:
            return run
    return [*run, next_token([*history, *run])]


class ModelledDevice:
    """Runs steps as they are launched, over blocks that remember the history each of their tokens was computed from."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        rng = np.random.default_rng(0)  # stale tables point anywhere until they are written
        self.tables = [rng.integers(0, g.num_blocks, (config.max_num_seqs, MAX_MODEL_LEN)) for g in config.groups]
        self.contents: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in config.groups]  # (hash, step id)
        self.histories: dict[int, list[int]] = {}  # by slot
        self.limits: dict[int, int] = {}  # by slot
        self.tenants = Counter[int]()  # Starts by slot
        self.in_use: deque[dict[tuple[int, int], set[tuple[int, int]]]] = deque()  # by step: (group, block) to tenants
        self.ids: deque[int] = deque()  # of the steps in flight

    def launch(self, step: Step) -> StepResult:
        for start in step.starts:
            self.tenants[start.slot] += 1
            most = start.prompt_len + (start.sampling.max_tokens or MAX_MODEL_LEN)
            self.limits[start.slot] = min(most, MAX_MODEL_LEN)
            self.histories[start.slot] = np.frombuffer(start.tokens, np.int32).tolist()
        for table, update in zip(self.tables, step.tables, strict=True):
            places = list(zip(update.slots.tolist(), update.positions.tolist(), strict=True))
            assert len(places) == len(set(places)), "two changes of one table entry"
            table[update.slots, update.positions] = update.blocks
        self._check_hits(step)
        self.in_use.append({})
        self.ids.append(step.id)
        sampled, counts, ends = [], [], np.cumsum(step.num_new)
        num_drafts = np.zeros(step.num_rows, int) if step.num_drafts is None else step.num_drafts
        for row in range(step.num_rows):
            slot, computed, new = int(step.slots[row]), int(step.num_computed[row]), int(step.num_new[row])
            tokens, history = step.tokens[ends[row] - new : ends[row]].tolist(), self.histories[slot]
            drafts = tokens[new - num_drafts[row] :]
            self._check_tokens(slot, computed, tokens[: new - num_drafts[row]])
            for position in range(computed, computed + new):
                self._compute(slot, position, step.id, [*history, *drafts])
            if step.samples[row]:
                assert computed + new == len(history) + len(drafts), "sampled from the middle of a sequence"
                run = verified(history, drafts)
                assert len(history) + len(drafts) < self.limits[slot], "sampled past max_tokens or max_model_len"
                history += run
                sampled += run
                counts.append(len(run))
            else:
                assert not drafts
        return StepResult(
            np.array(sampled, np.int32), {}, None if step.num_drafts is None else np.array(counts, np.int32)
        )

    def complete(self, *, failed: bool = False) -> None:
        self.in_use.popleft()
        done = self.ids.popleft()
        for contents in self.contents if failed else ():
            for place in [place for place, (_, writer) in contents.items() if writer == done]:
                contents[place] = (-1, done)  # who knows what a failed step wrote

    def _check_hits(self, step: Step) -> None:
        """What a sequence starts with was computed by steps that are done, not by one that may yet fail."""
        computed = dict(zip(step.slots.tolist(), step.num_computed.tolist(), strict=True))
        for start in step.starts:
            history, hit = self.histories[start.slot], computed[start.slot]
            for group, table, contents in zip(self.config.groups, self.tables, self.contents, strict=True):
                for seen in range(0 if group.window is None else max(0, hit - group.window + 1), hit):
                    place = (int(table[start.slot, seen // group.block_size]), seen % group.block_size)
                    held, writer = contents[place]
                    assert held == history_hash(history[: seen + 1])
                    assert writer not in self.ids, "a prefix hit on a block that is still being computed"

    def _check_tokens(self, slot: int, computed: int, tokens: list[int]) -> None:
        history = self.histories[slot]
        if tokens == [SAMPLED_LAST]:
            assert computed == len(history) - 1, "the row is not about what its slot sampled last"
        else:
            assert tokens == history[computed : computed + len(tokens)]

    def _compute(self, slot: int, position: int, step_id: int, history: list[int]) -> None:
        tenant = (slot, self.tenants[slot])
        for number, group in enumerate(self.config.groups):
            table, contents = self.tables[number], self.contents[number]
            written = int(table[slot, position // group.block_size])
            for users in self.in_use:
                others = users.get((number, written), set()) - {tenant}
                assert not others, f"block {written} is written while a step in flight uses it"
            contents[written, position % group.block_size] = (history_hash(history[: position + 1]), step_id)
            first = 0 if group.window is None else max(0, position - group.window + 1)
            for seen in range(first, position + 1):
                block = int(table[slot, seen // group.block_size])
                assert block != 0, f"token {position} sees the null block at {seen}"
                held = contents[block, seen % group.block_size][0]
                assert held == history_hash(history[: seen + 1]), f"block {block} does not hold token {seen}"
                self.in_use[-1].setdefault((number, block), set()).add(tenant)


class PartlyRight:
    """A drafter whose guesses are what the device would sample up to some place, and another token there."""

    def __init__(self, device: ModelledDevice, num_drafts: int, seed: int) -> None:
        self._device, self._num_drafts, self._random = device, num_drafts, random.Random(seed)

    def propose(self, needs: DraftNeeds) -> Drafts:
        width = self._num_drafts
        ids, counts = np.full((len(needs.slots), width), -5, np.int32), np.zeros(len(needs.slots), np.int32)
        for row, slot in enumerate(needs.slots.tolist()):
            assert needs.max_drafts[row] <= width
            counts[row] = count = self._random.randint(0, max(0, int(needs.max_drafts[row])))
            known = needs.tokens[slot, : needs.num_known[row]].tolist()
            assert known == self._device.histories[slot]
            right = self._random.randint(0, count)
            for place in range(count):
                token = next_token([*known, *ids[row, :place].tolist()])
                ids[row, place] = token if place != right else (token + 1) % VOCABULARY
        return Drafts(counts, ids)
