"""The one model runner: turns a step into launches of the model's programs, and hidden states into tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from jackfield.config.json_fields import ConfigError
from jackfield.engine.messages import BucketCount, EngineStats
from jackfield.engine.step import Step
from jackfield.lora_request import LoRARequest
from jackfield.models.interface import Model
from jackfield.runner.adapters import Adapters
from jackfield.runner.attention_groups import AttentionGroup, Ints, PagedAttention
from jackfield.runner.elastic_programs import ElasticPrograms, programs
from jackfield.runner.pending_step import PendingStep
from jackfield.runner.programs import LaunchInputs
from jackfield.runner.sampler import Sampled, Sampler
from jackfield.runner.slot_sampling import SamplingRows, SlotSampling
from jackfield.runner.step_buffers import Filled, StepBuffers
from jackfield.runner.verify import Guesses, verify
from jackfield_platforms.bucket import Bucket, BucketPlan, Limits, Placement, RowSizes
from jackfield_platforms.buckets.usage import Usage
from jackfield_platforms.kv_tokens import KVTokens
from jackfield_platforms.platform import Platform


class Forward(msgspec.Struct, frozen=True):
    """What a launch left on the device: hidden states of the rows to sample, and how to sample them."""

    hidden: Tensor  # [positions to sample, hidden]
    rows: SamplingRows  # one entry a position
    guesses: Guesses | None = None  # None: no row has drafts, so that each has one position


class ModelRunner:
    """An `Executor` over one device. It owns the tensors: weights, KV caches, step buffers, what each slot sampled
    last.

    Host buffers come in as many sets as steps may be in flight, so that a set is refilled only when its step is done.
    """

    def __init__(
        self,
        model: Model,
        platform: Platform,
        groups: Sequence[AttentionGroup],
        num_blocks: Sequence[int],
        limits: Limits,
        *,
        buckets: BucketPlan,
    ) -> None:
        caps, config = platform.capabilities(), model.build.config
        self._platform, self._device, self._comm = platform, model.build.device, model.build.comm
        self._block_sizes = [group.backend.block_size for group in groups]
        self._tables = [
            np.zeros((limits.max_rows, -(-limits.max_model_len // size)), np.int32) for size in self._block_sizes
        ]
        self._buckets = buckets
        self._attention = PagedAttention(groups, num_blocks)
        self._programs = programs(
            model, groups, self._attention, platform.graph_runner(), plans_sizes=bool(buckets.buckets())
        )
        self._vocab = config.vocab_size
        self._limits, self._pinned = limits, caps.pinned_memory
        self._buffers: deque[list[StepBuffers]] = deque([] for _ in range(caps.scheduling.max_in_flight))
        self._adapters = None if model.build.lora is None else Adapters(model, limits.max_rows)
        self._slots = SlotSampling(limits.max_rows, config.vocab_size)
        self._sampler = Sampler(config.vocab_size, self._device, may_wait=not caps.asynchronous, ops=model.build.ops)
        self._sampled_last = torch.zeros(limits.max_rows, dtype=torch.int64, device=self._device)
        self.usage = Usage()
        self.num_late_captures = 0  # after the warm-up

    @property
    def num_planned(self) -> int:
        """Captures that `warm_up` makes."""
        return len(self._buckets.buckets()) + len(self._buckets.sampling_sizes())

    @property
    def captured_bytes(self) -> int:
        """What all captures took, as the platform says."""
        return self._programs.captured_bytes

    @torch.inference_mode()
    def capture_any_size(self) -> dict[str, str | None]:
        """Capture programs that then run at any size, where the platform can; by program why it is not, or None."""
        if not isinstance(self._programs, ElasticPrograms):
            return {}
        limits = self._limits
        bucket = Bucket("mixed", num_rows=limits.max_rows, num_tokens=limits.max_tokens)
        inputs = self._inputs(self._next_buffers(1)[0].fill_padding(bucket, self._block_sizes))
        return self._programs.capture_any(bucket, inputs, limits.max_rows * (1 + limits.num_drafts))

    @torch.inference_mode()
    def warm_up(self, advance: Callable[[str], None] = lambda what: None) -> None:
        """Capture every planned bucket, the largest first; `advance` is told each one when it is done."""
        for bucket in self._buckets.buckets():
            filled = self._next_buffers(1)[0].fill_padding(bucket, self._block_sizes)
            hidden = self._programs.capture(bucket, self._inputs(filled))
            advance(bucket.describe())
        for size in reversed(self._buckets.sampling_sizes()):
            self._programs.capture_logits(hidden.new_zeros(size, hidden.shape[-1]))
            advance(f"logits {size}")

    @torch.inference_mode()
    def launch(self, step: Step) -> Forward:
        """Run embed and forward over the step's rows, in one launch or several."""
        for start in step.starts:
            self._slots.start(start)
            if self._adapters is not None:
                self._adapters.start(start)
            self._sampler.start(start)
        for table, updates in zip(self._tables, step.tables, strict=True):
            if updates.slots.size:
                table[updates.slots, updates.positions] = updates.blocks
        ends = step.num_computed + step.num_new
        sizes = RowSizes(step.num_new, ends)
        placements = self._buckets.place(sizes)
        self.usage.count(sizes, placements)
        hidden = [
            self._run(step, *launch) for launch in zip(placements, self._next_buffers(len(placements)), strict=True)
        ]
        together = hidden[0] if len(hidden) == 1 else torch.cat(hidden)
        if step.num_drafts is not None:
            guesses = Guesses.of(step)
            return Forward(together, self._slots.rows(guesses.flat_slots, guesses.flat_ends), guesses)
        rows = self._slots.rows(step.slots[step.samples].astype(np.int64), ends[step.samples].astype(np.int64))
        return Forward(together, rows)

    @torch.inference_mode()
    def sample(self, forward: Forward, masks: Tensor | None = None) -> PendingStep:
        """Logits and ids of the rows that sample; the ids stay on the device for the next step, a copy goes to the
        host. Drafts are verified on the device.
        """
        logits = self._logits(forward.hidden)
        sampled = self._sampler.sample(logits, forward.rows, masks)
        if forward.guesses is not None:
            return self._verified(sampled, forward.rows, forward.guesses)
        self._remember(forward.rows, self._comm.broadcast(sampled.ids))
        return PendingStep(sampled, forward.rows, self._platform.fetch)

    def _verified(self, sampled: Sampled, rows: SamplingRows, guesses: Guesses) -> PendingStep:
        slots, places, drafts = (
            self._put(torch.from_numpy(array)) for array in (guesses.slots, guesses.places, guesses.drafts)
        )
        verified = verify(sampled.ids, places, drafts)
        self._sampled_last.index_copy_(0, slots, verified.last)
        fetch = self._platform.fetch
        return PendingStep(sampled, rows, fetch, positions=guesses.counts, counts=verified.counts)

    @torch.inference_mode()
    def export_kv(self, slots: Sequence[Ints]) -> tuple[KVTokens, ...]:
        """The tokens at `slots` of each KV group, on the host; waits for the device. Refused says who cannot."""
        return tuple(self._fetched(tokens) for tokens in self._attention.export_tokens(slots))

    @torch.inference_mode()
    def import_kv(self, slots: Sequence[Ints], tokens: Sequence[KVTokens]) -> None:
        """Write tokens to `slots` of each KV group, behind the steps in flight; ValueError when they do not fit."""
        self._attention.import_tokens(slots, tokens)

    def read_adapter(self, lora: LoRARequest) -> None:
        """Read an adapter to the host, so that it can be served; ValueError says why it cannot."""
        if self._adapters is None:
            raise ConfigError(f"The request names the adapter {lora.lora_name!r}; start the engine with --enable-lora")
        self._adapters.read(lora)

    @torch.inference_mode()
    def follow(self, forward: Forward) -> None:
        """What the other ranks do while rank 0 samples: their part of the logits, and the ids as it chose them."""
        self._logits(forward.hidden)
        ids = torch.empty(len(forward.rows.slots), dtype=torch.int64, device=self._device)
        self._remember(forward.rows, self._comm.broadcast(ids))

    def close(self) -> None:
        """Nothing runs beside this process."""

    def _remember(self, rows: SamplingRows, ids: Tensor) -> None:
        self._sampled_last.index_copy_(0, self._put(torch.from_numpy(rows.slots)), ids)

    def count(self, stats: EngineStats) -> EngineStats:
        """The reading with launches by bucket."""
        buckets = [
            BucketCount(
                "any" if bucket is None else bucket.describe(),
                use.launches,
                use.misses,
                use.real_tokens,
                use.padded_tokens,
            )
            for bucket, use in self.usage.by_bucket.items()
        ]
        return msgspec.structs.replace(stats, num_late_captures=self.num_late_captures, buckets=buckets)

    def _fetched(self, tokens: KVTokens) -> KVTokens:
        waits = {name: self._platform.fetch(tensor) for name, tensor in tokens.tensors.items()}
        return KVTokens(tokens.header, {name: wait() for name, wait in waits.items()})

    def _next_buffers(self, count: int) -> list[StepBuffers]:
        sets = self._buffers[0]
        self._buffers.rotate(-1)
        while len(sets) < count:
            by_slot = None if self._adapters is None else self._adapters.of_slot
            sets.append(
                StepBuffers(self._limits.max_tokens, self._tables, pinned=self._pinned, adapter_of_slot=by_slot)
            )
        return sets[:count]

    def _run(self, step: Step, placement: Placement, buffers: StepBuffers) -> Tensor:
        filled = buffers.fill(step, placement, self._tables, self._block_sizes)
        inputs, bucket = self._inputs(filled), placement.bucket
        if placement.captured and not self._programs.is_captured(bucket):
            self.num_late_captures += 1
            hidden = self._programs.capture(bucket, inputs)
        else:
            hidden = self._programs.hidden(bucket, inputs)
        return hidden.index_select(0, self._put(filled.sample_rows))

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

    def _inputs(self, filled: Filled) -> LaunchInputs:
        adapters = None if filled.adapters is None else self._put(filled.adapters)
        return LaunchInputs(self._tokens(filled), self._put(filled.positions), filled.layouts, adapters)

    def _tokens(self, filled: Filled) -> Tensor:
        if not filled.sampled_last.numel():
            return self._put(filled.tokens)
        last = self._sampled_last.index_select(0, self._put(filled.sampled_last_slots))
        if last.numel() == filled.tokens.numel():
            return last
        return self._put(filled.tokens).index_copy_(0, self._put(filled.sampled_last), last)

    def _put(self, host: Tensor) -> Tensor:
        return host.to(self._device, non_blocking=True)
