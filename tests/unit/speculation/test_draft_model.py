"""The draft model's side over a modelled device: what it guesses is the model's own continuation, whatever happened."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import pytest

from jackfield.engine.messages import EngineStats
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import SAMPLED_LAST, Step, StepResult
from jackfield.speculation.draft_model import ModelDrafter
from jackfield.speculation.drafter import DraftNeeds
from jackfield_platforms.capabilities import SchedulingRules

VOCABULARY, LENGTH, SLOTS = 31, 60, 5


def history_hash(tokens: list[int]) -> int:
    return crc32(np.array(tokens, np.int32).tobytes())


def continuation(tokens: list[int], count: int) -> list[int]:
    """What the modelled draft model says after `tokens`."""
    tokens = list(tokens)
    for _ in range(count):
        tokens.append(history_hash([*tokens, 1]) % VOCABULARY)
    return tokens[len(tokens) - count :] if count else []


class ModelledDraftDevice:
    """Runs steps over blocks that hold, for each place, the history that it was computed from."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.tables = [np.zeros((SLOTS, LENGTH), int) for _ in config.groups]
        self.contents: list[dict[tuple[int, int], list[int]]] = [{} for _ in config.groups]
        self.last = np.zeros(SLOTS, int)
        self.num_tokens: list[int] = []
        self.in_flight = 0
        self.broken = False

    def count(self, stats: EngineStats) -> EngineStats:
        return stats

    def launch(self, step: Step) -> Any:
        if self.broken:
            raise RuntimeError("the draft device fell over")
        self._check_shape(step)
        self.in_flight += 1
        assert self.in_flight <= self.config.rules.max_in_flight
        for table, update in zip(self.tables, step.tables, strict=True):
            table[update.slots, update.positions] = update.blocks
        sampled, begin = [], 0
        for row, slot in enumerate(step.slots.tolist()):
            ids = step.tokens[begin : begin + step.num_new[row]].tolist()
            begin += len(ids)
            history = self._compute(slot, int(step.num_computed[row]), ids)
            if step.samples[row]:
                self.last[slot] = continuation(history, 1)[0]
                sampled.append(int(self.last[slot]))
        return sampled

    def sample(self, forward: Any, masks: Any = None) -> Any:
        device = self

        class Pending:
            def wait(self) -> StepResult:
                device.in_flight -= 1
                return StepResult(np.array(forward, np.int32))

        return Pending()

    def _compute(self, slot: int, start: int, ids: list[int]) -> list[int]:
        ids = [int(self.last[slot]) if token == SAMPLED_LAST else token for token in ids]
        for group, table, contents in zip(self.config.groups, self.tables, self.contents, strict=True):
            place = (int(table[slot, (start - 1) // group.block_size]), (start - 1) % group.block_size)
            history = contents[place] if start else []
            for position, token in enumerate(ids, start):
                history = [*history, token]
                block = int(table[slot, position // group.block_size])
                assert block > 0
                contents[block, position % group.block_size] = history
                for seen in range(max(0, position + 1 - (group.window or LENGTH)), position + 1):
                    place = (int(table[slot, seen // group.block_size]), seen % group.block_size)
                    assert contents[place] == history[: seen + 1], f"token {position} sees another token {seen}"
        return history

    def _check_shape(self, step: Step) -> None:
        rules = self.config.rules
        self.num_tokens.append(step.num_tokens)
        assert 0 < step.num_tokens == step.num_new.sum() <= self.config.max_num_batched_tokens
        assert (step.num_new[: step.num_decode] == 1).all()
        assert (step.num_new[step.num_decode :] > 1).all()
        assert rules.mixed or step.num_decode in (0, step.num_rows)
        assert rules.max_prefills is None or step.num_rows - step.num_decode <= rules.max_prefills
        assert (step.num_new[~step.samples] % rules.chunk_multiple == 0).all()


class Target:
    """Sequences that grow by what is accepted of each proposal, and by one token more."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tenures = np.zeros(SLOTS, np.int64)
        self.sequences: dict[int, list[int]] = {}

    def come_and_go(self) -> None:
        for slot in range(SLOTS):
            if slot in self.sequences and (self.rng.random() < 0.05 or len(self.sequences[slot]) > LENGTH - 8):
                del self.sequences[slot]
                self.tenures[slot] += 1
            if slot not in self.sequences and self.rng.random() < 0.3:
                length = int(self.rng.integers(1, LENGTH // 2))
                self.sequences[slot] = self.rng.integers(0, VOCABULARY, length).tolist()

    def needs(self, most: int) -> DraftNeeds:
        slots = self.rng.permutation(list(self.sequences)).astype(np.intp)
        tokens = np.full((SLOTS, LENGTH), -9, np.int32)
        for slot, sequence in self.sequences.items():
            tokens[slot, : len(sequence)] = sequence
        known = np.array([len(self.sequences[slot]) for slot in slots], np.int32)
        wanted = np.where(self.rng.random(len(slots)) < 0.2, 0, most).astype(np.int32)
        return DraftNeeds(slots, self.tenures[slots], known, wanted, tokens)

    def accept(self, slot: int, drafts: list[int]) -> None:
        accepted = int(self.rng.integers(0, len(drafts) + 1))
        sequence = self.sequences[slot]
        right = continuation(sequence, accepted + 1)
        assert right[: len(drafts)][:accepted] == drafts[:accepted]
        wrong = (right[-1] + 1) % VOCABULARY
        sequence += [*right[:-1], right[-1] if accepted == len(drafts) and self.rng.random() < 0.5 else wrong]


def config_for(rng: np.random.Generator, num_blocks: int) -> SchedulerConfig:
    groups = [KVGroup(None, 4, num_blocks), KVGroup(6, 4, num_blocks)]
    return SchedulerConfig(
        max_num_seqs=SLOTS,
        max_num_batched_tokens=int(rng.integers(8, 30)),
        max_model_len=LENGTH,
        groups=tuple(groups[: int(rng.integers(1, 3))]),
        rules=SchedulingRules(
            mixed=bool(rng.integers(2)),
            chunk_multiple=int(rng.choice([1, 4])),
            max_prefills=[None, 1, 2][rng.integers(3)],
            max_in_flight=int(rng.integers(1, 4)),
        ),
        enable_prefix_caching=False,
        hash_unit=4,
    )


@pytest.mark.parametrize("num_blocks", [100, 30])
@pytest.mark.parametrize("seed", range(15))
def test_guesses_are_the_models_own_continuations(seed: int, num_blocks: int) -> None:
    rng = np.random.default_rng(seed)
    config = config_for(rng, num_blocks)
    device, target, most = ModelledDraftDevice(config), Target(rng), int(rng.integers(1, 5))
    drafter = ModelDrafter(device, config, num_drafts=most)
    total = wanted = 0
    for _ in range(120):
        target.come_and_go()
        if not target.sequences:
            continue
        needs = target.needs(most)
        drafts = drafter.propose(needs)
        assert device.in_flight == 0
        assert (drafts.counts <= needs.max_drafts).all()
        for row, slot in enumerate(needs.slots.tolist()):
            ids = drafts.ids[row, : drafts.counts[row]].tolist()
            assert ids == continuation(target.sequences[slot], len(ids))
            target.accept(slot, ids)
        total, wanted = total + int(drafts.counts.sum()), wanted + int(needs.max_drafts.sum())
        for table in drafter._blocks.tables:
            held = sum(table.held(slot) for slot in range(SLOTS))
            assert table.pool.num_free + held == table.pool.num_blocks - 1
    assert total > wanted / 8  # one prompt a step, and few blocks, are the worst of the rules drawn
    drafter.propose(DraftNeeds(*(np.zeros(0, np.int32),) * 4, np.zeros((SLOTS, LENGTH), np.int32)))
    assert all(table.pool.num_free == table.pool.num_blocks - 1 for table in drafter._blocks.tables)


def roomy() -> tuple[ModelledDraftDevice, ModelDrafter]:
    """A drafter of up to 3 tokens with more blocks and tokens than it needs."""
    config = SchedulerConfig(
        max_num_seqs=SLOTS, max_num_batched_tokens=64, max_model_len=LENGTH, groups=(KVGroup(None, 4, 50),),
        enable_prefix_caching=False, hash_unit=4,
    )  # fmt: skip
    device = ModelledDraftDevice(config)
    return device, ModelDrafter(device, config, num_drafts=3)


def test_a_sequence_that_keeps_its_place_is_computed_once() -> None:
    device, drafter = roomy()
    tokens = np.zeros((SLOTS, LENGTH), np.int32)
    sequence = list(range(20))

    def propose() -> list[int]:
        tokens[2, : len(sequence)] = sequence
        rows = np.array([2]), np.array([1]), np.array([len(sequence)], np.int32), np.array([3], np.int32)
        found: list[int] = drafter.propose(DraftNeeds(*rows, tokens)).ids[0].tolist()
        return found

    sequence += [*propose(), 5]  # all accepted: the last draft and the token behind it are new
    assert device.num_tokens == [20, 1, 1]
    first = propose()[0]
    assert device.num_tokens[3:] == [2, 1, 1]
    sequence += [first, (continuation(sequence, 2)[1] + 1) % VOCABULARY]  # the second is another one
    propose()
    assert device.num_tokens[6:] == [1, 1, 1]


def test_after_a_failure_it_begins_anew() -> None:
    device, drafter = roomy()
    target = Target(np.random.default_rng(0))
    target.sequences = {1: [3, 4, 5], 3: [6, 7]}
    needs = target.needs(3)
    drafter.propose(needs)
    device.broken = True
    with pytest.raises(RuntimeError, match="fell over"):
        drafter.propose(needs)
    device.broken = False
    drafts = drafter.propose(needs)
    for row, slot in enumerate(needs.slots.tolist()):
        count = int(drafts.counts[row])
        assert drafts.ids[row, :count].tolist() == continuation(target.sequences[slot], count)
