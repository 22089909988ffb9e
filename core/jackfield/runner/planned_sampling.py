"""Sampling at planned numbers of positions, in captured programs, where a device runs only what it has compiled.

Between programs there is nothing but copies from the host into buffers that stay, and copies of results to the host.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from functools import partial

import msgspec
import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.models.interface import Model
from jackfield.runner.captures import Captures
from jackfield.runner.pending_step import Fetch, PendingStep
from jackfield.runner.planned_launches import PlannedLaunches
from jackfield.runner.planned_sampler import VARIANTS, PlannedSampler, SamplerInputs, Variant
from jackfield.runner.row_sampling import Forward, RowSampling
from jackfield.runner.sampler import Sampled
from jackfield.runner.slot_sampling import Array, SamplingRows
from jackfield.runner.slot_tables import SlotTables, rows_of, wants_tables
from jackfield.runner.step_buffers import Filled
from jackfield.runner.verify import NO_DRAFT, Guesses, Verified, verify
from jackfield_platforms.bucket import Bucket, Limits
from jackfield_platforms.graph import GraphRunner


class _Buffers(msgspec.Struct, frozen=True):
    """What the programs of a number of positions read, and the ids that they make."""

    inputs: SamplerInputs
    ids: Tensor  # int64 [size]
    slots: Tensor  # int64 [size] who remembers the id; padding: nobody
    places: Tensor  # int64 [size, 1 + drafts] as in `Guesses`
    drafts: Tensor  # int64 [size, drafts]


class PlannedSampling(RowSampling):
    """A step samples at the smallest planned number of positions that holds its own."""

    def __init__(self, model: Model, graphs: GraphRunner, limits: Limits, sizes: tuple[int, ...], fetch: Fetch) -> None:
        build = model.build
        self._model, self._captures, self._fetch, self._comm = model, Captures(graphs), fetch, build.comm
        self._device, self._vocab, self._num_drafts = build.device, build.config.vocab_size, limits.num_drafts
        self._nobody = limits.max_rows  # the slot of positions that pad
        most = limits.max_rows * (1 + limits.num_drafts)
        self._sizes = (*(size for size in sizes if size < most), most)
        self._sampler = PlannedSampler(self._vocab, limits.max_rows, build.ops)
        self._tables = SlotTables.empty(limits.max_rows, self._vocab, self._device)
        self._row, self._row_slot = SlotTables.empty(0, self._vocab, self._device), self._zeros(1)
        self._sampled_last = self._zeros(limits.max_rows + 1)
        rows = torch.zeros(most + 1, build.config.hidden_size, dtype=build.dtype, device=self._device)
        self._launches = PlannedLaunches(self._captures, self._sampled_last, rows, most_of_a_row=1 + limits.num_drafts)
        self._by_size: dict[int, _Buffers] = {}

    def start(self, start: Start) -> None:
        self._sampler.start(start)
        if wants_tables(start):
            for row, given in zip(self._row, rows_of(start, self._vocab), strict=True):
                row.copy_(given)
            self._row_slot.copy_(torch.tensor([start.slot]))
            self._captures.run("start", 1, self._tables.write, self._row_slot, self._row)

    def tokens(self, bucket: Bucket, filled: Filled) -> Tensor:
        return self._launches.tokens(bucket, filled)

    def take(self, bucket: Bucket, filled: Filled, hidden: Tensor) -> None:
        self._launches.take(bucket, filled, hidden)

    def taken(self) -> Tensor:
        return self._launches.taken()

    def sample(self, forward: Forward, masks: Tensor | None) -> PendingStep:
        rows, count = forward.rows, len(forward.rows.slots)
        if not count:
            return PendingStep(Sampled(torch.zeros(0, dtype=torch.int64), None), rows, lambda host: lambda: host)
        size = self._size_for(count)
        logits, buffers = self._logits(size), self._by_size[size]
        inputs, variant = self._sampler.fill(rows, size, masks)
        buffers.inputs.copy_(inputs, with_masks=variant == "edited")
        self._captures.run(
            "sample", size, partial(self._sample, variant), logits, buffers, self._tables, variant=variant
        )
        logprobs = None
        if rows.with_logprobs.size:
            logprobs = self._captures.run("logprobs", size, self._sampler.logprobs, logits, buffers.ids)
        sampled = Sampled(buffers.ids, logprobs, of_every_row=True)
        if forward.guesses is not None:
            return self._verified(sampled, rows, forward.guesses, size)
        pending = PendingStep(sampled, rows, self._fetch)
        if self._comm.size > 1:
            buffers.ids.copy_(self._comm.broadcast(buffers.ids))
        self._remember(size, rows.slots, buffers.ids)
        return pending

    def follow(self, forward: Forward) -> None:
        if not len(forward.rows.slots):
            return  # as `sample` does
        size = self._size_for(len(forward.rows.slots))
        self._logits(size)
        ids = self._by_size[size].ids
        ids.copy_(self._comm.broadcast(ids))
        self._remember(size, forward.rows.slots, ids)

    @property
    def num_planned(self) -> int:
        return len(self._sizes)

    @property
    def captured_bytes(self) -> int:
        return self._captures.num_bytes

    def capture(self, bucket: Bucket, hidden: Tensor) -> None:
        self._launches.capture(bucket, hidden)

    def warm_up(self, advance: Callable[[str], None]) -> None:
        self._captures.capture("start", 1, self._tables.write, self._row_slot, self._row)
        for size in reversed(self._sizes):
            self._capture_size(size)
            advance(f"sampling {size}")

    def _capture_size(self, size: int) -> None:
        capture = self._captures.capture
        buffers = self._by_size[size] = self._blank(size)
        ids = buffers.ids
        logits = capture("logits", size, partial(self._logits_of, size), self._launches.rows)
        for variant in VARIANTS:
            capture("sample", size, partial(self._sample, variant), logits, buffers, self._tables, variant=variant)
        capture("logprobs", size, self._sampler.logprobs, logits, ids)
        capture("remember", size, _remember, ids, buffers.slots, self._sampled_last)
        if self._num_drafts:
            verified = capture("verify", size, verify, ids, buffers.places, buffers.drafts)
            capture("remember", size, _remember, verified.last, buffers.slots, self._sampled_last, variant="verified")

    def _blank(self, size: int) -> _Buffers:
        inputs = SamplerInputs.blank(size, self._vocab, self._nobody)
        return _Buffers(
            inputs=SamplerInputs(*(tensor.to(self._device) for tensor in inputs)),
            ids=self._zeros(size),
            slots=torch.full((size,), self._nobody, device=self._device),
            places=self._zeros(size, 1 + self._num_drafts),
            drafts=torch.full((size, self._num_drafts), NO_DRAFT, device=self._device),
        )

    def _sample(self, variant: Variant, logits: Tensor, buffers: _Buffers, tables: SlotTables) -> tuple[()]:
        buffers.ids.copy_(self._sampler.sample(variant, logits, buffers.inputs, tables))
        return ()

    def _logits_of(self, size: int, rows: Tensor) -> Tensor:
        return self._model.logits(rows[:size])

    def _logits(self, size: int) -> Tensor:
        logits: Tensor = self._captures.run("logits", size, partial(self._logits_of, size), self._launches.rows)
        return logits

    def _remember(self, size: int, slots: Array, ids: Tensor, variant: str = "") -> None:
        padded = torch.full((size,), self._nobody)
        padded[: len(slots)] = torch.from_numpy(slots)
        held = self._by_size[size].slots
        held.copy_(padded)
        self._captures.run("remember", size, _remember, ids, held, self._sampled_last, variant=variant)

    def _verified(self, sampled: Sampled, rows: SamplingRows, guesses: Guesses, size: int) -> PendingStep:
        buffers, (count, most) = self._by_size[size], guesses.drafts.shape
        places = torch.zeros(size, 1 + self._num_drafts, dtype=torch.int64)
        places[:count, : 1 + most] = torch.from_numpy(guesses.places)
        places[:count, 1 + most :] = places[:count, most : 1 + most]
        drafts = torch.full((size, self._num_drafts), NO_DRAFT)
        drafts[:count, :most] = torch.from_numpy(guesses.drafts)
        buffers.places.copy_(places)
        buffers.drafts.copy_(drafts)
        verified: Verified = self._captures.run("verify", size, verify, buffers.ids, buffers.places, buffers.drafts)
        self._remember(size, guesses.slots, verified.last, "verified")
        return PendingStep(sampled, rows, self._fetch, positions=guesses.counts, counts=verified.counts)

    def _size_for(self, count: int) -> int:
        return self._sizes[bisect.bisect_left(self._sizes, count)]

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=self._device)


def _remember(ids: Tensor, slots: Tensor, sampled_last: Tensor) -> tuple[()]:
    sampled_last.index_copy_(0, slots, ids)
    return ()
