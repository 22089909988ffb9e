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
from jackfield.runner.any_size_sampling import AnySizeSampling
from jackfield.runner.attention_groups import AttentionGroup, Ints, PagedAttention
from jackfield.runner.elastic_programs import ElasticPrograms, programs
from jackfield.runner.late_compilations import LateCompilations
from jackfield.runner.pending_step import PendingStep
from jackfield.runner.planned_sampling import PlannedSampling
from jackfield.runner.programs import LaunchInputs
from jackfield.runner.row_sampling import Forward, RowSampling
from jackfield.runner.slot_sampling import Array, SlotSampling
from jackfield.runner.step_buffers import Filled, StepBuffers
from jackfield.runner.verify import Guesses
from jackfield_platforms.bucket import Bucket, BucketPlan, Limits, Placement, RowSizes
from jackfield_platforms.buckets.usage import Usage
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.kv_tokens import KVTokens
from jackfield_platforms.platform import Platform


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
        caps, graphs = platform.capabilities(), platform.graph_runner()
        self._platform, self._device = platform, model.build.device
        self._block_sizes = [group.backend.block_size for group in groups]
        self._tables = [
            np.zeros((limits.max_rows, -(-limits.max_model_len // size)), np.int32) for size in self._block_sizes
        ]
        self._buckets = buckets
        self._attention = PagedAttention(groups, num_blocks)
        self._programs = programs(model, groups, self._attention, graphs, plans_sizes=bool(buckets.buckets()))
        self._limits, self._pinned = limits, caps.pinned_memory
        self._buffers: deque[list[StepBuffers]] = deque([] for _ in range(caps.scheduling.max_in_flight))
        self._adapters = None if model.build.lora is None else Adapters(model, limits.max_rows)
        self._slots = SlotSampling(limits.max_rows, model.build.config.vocab_size)
        self._sampling = self._make_sampling(model, graphs)
        self.usage = Usage()
        self.num_late_captures = 0  # after the warm-up
        self._late = LateCompilations(platform.num_compilations)

    @property
    def num_planned(self) -> int:
        """Captures that `warm_up` makes."""
        return len(self._buckets.buckets()) + self._sampling.num_planned

    @property
    def captured_bytes(self) -> int:
        """What all captures took, as the platform says."""
        return self._programs.captured_bytes + self._sampling.captured_bytes

    @torch.inference_mode()
    def capture_any_size(self) -> dict[str, str | None]:
        """Capture programs that then run at any size, where the platform can; by program why it is not, or None."""
        if not isinstance(self._programs, ElasticPrograms):
            return {}
        limits = self._limits
        bucket = Bucket("mixed", num_rows=limits.max_rows, num_tokens=limits.max_tokens)
        inputs = self._inputs(bucket, self._next_buffers(1)[0].fill_padding(bucket, self._block_sizes))
        return self._programs.capture_any(bucket, inputs, limits.max_rows * (1 + limits.num_drafts))

    @torch.inference_mode()
    def warm_up(self, advance: Callable[[str], None] = lambda what: None) -> None:
        """Capture every planned bucket, the largest first; `advance` is told each one when it is done."""
        for bucket in self._buckets.buckets():
            filled = self._next_buffers(1)[0].fill_padding(bucket, self._block_sizes)
            self._capture(bucket, self._inputs(bucket, filled))
            advance(bucket.describe())
        self._sampling.warm_up(advance)
        self._late.begin()

    @torch.inference_mode()
    def launch(self, step: Step) -> Forward:
        """Run embed and forward over the step's rows, in one launch or several."""
        self._late.check("what came between steps", forbidden=False)
        for start in step.starts:
            self._slots.start(start)
            if self._adapters is not None:
                self._adapters.start(start)
            self._sampling.start(start)
        for table, updates in zip(self._tables, step.tables, strict=True):
            if updates.slots.size:
                table[updates.slots, updates.positions] = updates.blocks
        ends = step.num_computed + step.num_new
        sizes = RowSizes(step.num_new, ends)
        placements = self._buckets.place(sizes)
        self.usage.count(sizes, placements)
        for placement, buffers in zip(placements, self._next_buffers(len(placements)), strict=True):
            self._run(step, placement, buffers)
        self._late.check(
            f"a launch of {step.num_rows} rows and {step.num_tokens} tokens", forbidden=self._buckets.is_strict
        )
        return self._forward(step, ends)

    @torch.inference_mode()
    def sample(self, forward: Forward, masks: Tensor | None = None) -> PendingStep:
        """Logits and ids of the rows that sample; the ids stay on the device for the next step, a copy goes to the
        host. Drafts are verified on the device.
        """
        pending = self._sampling.sample(forward, masks)
        self._late.check(f"sampling {len(forward.rows.slots)} positions", forbidden=self._buckets.is_strict)
        return pending

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
        self._sampling.follow(forward)

    def close(self) -> None:
        """Nothing runs beside this process."""

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
        return msgspec.structs.replace(
            stats,
            num_late_captures=self.num_late_captures,
            num_late_compilations=self._late.count,
            buckets=buckets,
        )

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

    def _run(self, step: Step, placement: Placement, buffers: StepBuffers) -> None:
        filled = buffers.fill(step, placement, self._tables, self._block_sizes)
        bucket = placement.bucket
        inputs = self._inputs(bucket, filled)
        if placement.captured and not self._programs.is_captured(bucket):
            self.num_late_captures += 1
            hidden = self._capture(bucket, inputs)
        else:
            hidden = self._programs.hidden(bucket, inputs)
        self._sampling.take(bucket, filled, hidden)

    def _capture(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        hidden = self._programs.capture(bucket, inputs)
        self._sampling.capture(bucket, hidden)
        return hidden

    def _forward(self, step: Step, ends: Array) -> Forward:
        hidden = self._sampling.taken()
        if step.num_drafts is not None:
            guesses = Guesses.of(step)
            return Forward(hidden, self._slots.rows(guesses.flat_slots, guesses.flat_ends), guesses)
        rows = self._slots.rows(step.slots[step.samples].astype(np.int64), ends[step.samples].astype(np.int64))
        return Forward(hidden, rows)

    def _make_sampling(self, model: Model, graphs: GraphRunner) -> RowSampling:
        sizes, fetch = self._buckets.sampling_sizes(), self._platform.fetch
        if sizes and self._platform.capabilities().static_shapes:
            return PlannedSampling(model, graphs, self._limits, sizes, fetch)
        return AnySizeSampling(model, self._programs, self._buckets, fetch, num_slots=self._limits.max_rows)

    def _inputs(self, bucket: Bucket, filled: Filled) -> LaunchInputs:
        return LaunchInputs(self._sampling.tokens(bucket, filled), filled.positions, filled.layouts, filled.adapters)
