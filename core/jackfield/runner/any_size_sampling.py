"""Sampling of as many rows as a step has, where the device runs operations of any size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.models.interface import Model
from jackfield.runner.pending_step import Fetch, PendingStep
from jackfield.runner.programs import Programs
from jackfield.runner.row_sampling import Forward, RowSampling
from jackfield.runner.sampler import Sampled, Sampler
from jackfield.runner.slot_sampling import SamplingRows
from jackfield.runner.step_buffers import Filled
from jackfield.runner.verify import Guesses, verify
from jackfield_platforms.bucket import Bucket, BucketPlan


class AnySizeSampling(RowSampling):
    """Logits run at planned numbers of rows where there are any; everything else at the step's own."""

    def __init__(self, model: Model, programs: Programs, buckets: BucketPlan, fetch: Fetch, *, num_slots: int) -> None:
        build = model.build
        self._programs, self._buckets, self._fetch = programs, buckets, fetch
        self._device, self._comm, self._vocab = build.device, build.comm, build.config.vocab_size
        self._hidden_size, self._dtype = build.config.hidden_size, build.dtype
        may_wait = not build.capabilities.asynchronous
        self._sampler = Sampler(self._vocab, build.device, may_wait=may_wait, ops=build.ops)
        self._sampled_last = torch.zeros(num_slots, dtype=torch.int64, device=build.device)
        self._taken: list[Tensor] = []

    def start(self, start: Start) -> None:
        self._sampler.start(start)

    def tokens(self, bucket: Bucket, filled: Filled) -> Tensor:
        if not filled.sampled_last.numel():
            return self._put(filled.tokens)
        last = self._sampled_last.index_select(0, self._put(filled.sampled_last_slots))
        if last.numel() == filled.tokens.numel():
            return last
        return self._put(filled.tokens).index_copy_(0, self._put(filled.sampled_last), last)

    def take(self, bucket: Bucket, filled: Filled, hidden: Tensor) -> None:
        self._taken.append(hidden.index_select(0, self._put(filled.sample_rows)))

    def taken(self) -> Tensor:
        taken, self._taken = self._taken, []
        return taken[0] if len(taken) == 1 else torch.cat(taken)

    def sample(self, forward: Forward, masks: Tensor | None) -> PendingStep:
        sampled = self._sampler.sample(self._logits(forward.hidden), forward.rows, masks)
        if forward.guesses is not None:
            return self._verified(sampled, forward.rows, forward.guesses)
        self._remember(forward.rows, self._comm.broadcast(sampled.ids))
        return PendingStep(sampled, forward.rows, self._fetch)

    def follow(self, forward: Forward) -> None:
        self._logits(forward.hidden)
        ids = torch.empty(len(forward.rows.slots), dtype=torch.int64, device=self._device)
        self._remember(forward.rows, self._comm.broadcast(ids))

    def capture(self, bucket: Bucket, hidden: Tensor) -> None:
        """Rows are taken by an operation of their own."""

    def warm_up(self, advance: Callable[[str], None]) -> None:
        for size in reversed(self._buckets.sampling_sizes()):
            rows = torch.zeros(size, self._hidden_size, dtype=self._dtype, device=self._device)
            self._programs.capture_logits(rows)
            advance(f"logits {size}")

    @property
    def num_planned(self) -> int:
        return len(self._buckets.sampling_sizes())

    def _verified(self, sampled: Sampled, rows: SamplingRows, guesses: Guesses) -> PendingStep:
        slots, places, drafts = (
            self._put(torch.from_numpy(array)) for array in (guesses.slots, guesses.places, guesses.drafts)
        )
        verified = verify(sampled.ids, places, drafts)
        self._sampled_last.index_copy_(0, slots, verified.last)
        return PendingStep(sampled, rows, self._fetch, positions=guesses.counts, counts=verified.counts)

    def _remember(self, rows: SamplingRows, ids: Tensor) -> None:
        self._sampled_last.index_copy_(0, self._put(torch.from_numpy(rows.slots)), ids)

    def _logits(self, rows: Tensor) -> Tensor:
        if not len(rows):
            return rows.new_zeros(0, self._vocab)
        sizes = self._buckets.sampling_sizes()
        if not sizes or len(rows) <= sizes[-1]:
            return self._programs.logits(rows, self._buckets.sampling_rows(len(rows)))
        # more rows than any one launch holds: each part is copied out before the next one of its size runs
        parts = rows.split(sizes[-1])
        return torch.cat(
            [self._programs.logits(part, self._buckets.sampling_rows(len(part))).clone() for part in parts]
        )

    def _put(self, host: Tensor) -> Tensor:
        return host.to(self._device, non_blocking=True)
