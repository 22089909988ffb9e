"""The one model runner: turns a step into launches of the model's programs, and hidden states into tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from jackfield.engine.step import Step
from jackfield.models.interface import Hidden, Model, StepInputs
from jackfield.runner.attention_groups import AttentionGroup, PagedAttention
from jackfield.runner.pending_step import PendingStep
from jackfield.runner.sampler import Sampler
from jackfield.runner.slot_sampling import SamplingRows, SlotSampling
from jackfield.runner.step_buffers import Filled, StepBuffers
from jackfield_platforms.bucket import Bucket, Limits, Placement, RowSize
from jackfield_platforms.graph import ProgramKey
from jackfield_platforms.platform import Platform


class Forward(msgspec.Struct, frozen=True):
    """What a launch left on the device: hidden states of the rows to sample, and how to sample them."""

    hidden: Tensor  # [sampling rows, hidden]
    rows: SamplingRows


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
    ) -> None:
        caps, config = platform.capabilities(), model.build.config
        self._model, self._platform, self._groups = model, platform, groups
        self._device = model.build.device
        self._block_sizes = [group.backend.block_size for group in groups]
        self._tables = [
            np.zeros((limits.max_rows, -(-limits.max_model_len // size)), np.int32) for size in self._block_sizes
        ]
        self._attention = PagedAttention(groups, num_blocks)
        self._buckets, self._graphs = platform.buckets(limits), platform.graph_runner()
        self._max_tokens, self._pinned = limits.max_tokens, caps.pinned_memory
        self._buffers: deque[list[StepBuffers]] = deque([] for _ in range(caps.scheduling.max_in_flight))
        self._slots = SlotSampling(limits.max_rows, config.vocab_size)
        self._sampler = Sampler(config.vocab_size, self._device, may_wait=not caps.asynchronous)
        self._sampled_last = torch.zeros(limits.max_rows, dtype=torch.int64, device=self._device)

    @torch.inference_mode()
    def launch(self, step: Step) -> Forward:
        """Run embed and forward over the step's rows, in one launch or several."""
        for start in step.starts:
            self._slots.start(start)
            self._sampler.start(start)
        for table, updates in zip(self._tables, step.tables, strict=True):
            if updates.slots.size:
                table[updates.slots, updates.positions] = updates.blocks
        placements = self._buckets.place(_row_sizes(step))
        hidden = [
            self._run(step, *launch) for launch in zip(placements, self._next_buffers(len(placements)), strict=True)
        ]
        ends = (step.num_computed + step.num_new)[step.samples]
        rows = self._slots.rows(step.slots[step.samples].astype(np.int64), ends.astype(np.int64))
        return Forward(hidden[0] if len(hidden) == 1 else torch.cat(hidden), rows)

    @torch.inference_mode()
    def sample(self, forward: Forward, masks: Tensor | None = None) -> PendingStep:
        """Logits and ids of the rows that sample; the ids stay on the device for the next step, a copy goes to the
        host.
        """
        logits = self._model.logits(forward.hidden)
        sampled = self._sampler.sample(logits, forward.rows, masks)
        self._sampled_last.index_copy_(0, self._put(torch.from_numpy(forward.rows.slots)), sampled.ids)
        return PendingStep(sampled, forward.rows, self._platform.fetch)

    def _next_buffers(self, count: int) -> list[StepBuffers]:
        sets = self._buffers[0]
        self._buffers.rotate(-1)
        while len(sets) < count:
            sets.append(StepBuffers(self._max_tokens, self._tables, pinned=self._pinned))
        return sets[:count]

    def _run(self, step: Step, placement: Placement, buffers: StepBuffers) -> Tensor:
        filled = buffers.fill(step, placement, self._tables, self._block_sizes)
        inputs = self._inputs(filled, placement.bucket)
        hidden = self._program("embed", placement.bucket, self._model.embed, inputs)
        hidden = self._program("forward", placement.bucket, self._model.forward, hidden, inputs)
        return hidden["hidden"].index_select(0, inputs.sample_rows)

    def _program(self, name: str, bucket: Bucket, program: object, *buffers: object) -> Hidden:
        return self._graphs.run(ProgramKey(name, bucket), program, buffers)  # type: ignore[arg-type,no-any-return]

    def _inputs(self, filled: Filled, bucket: Bucket) -> StepInputs:
        tokens = self._tokens(filled)
        plans = []
        for group, layout in zip(self._groups, filled.layouts, strict=True):
            plan = group.backend.blank(bucket)
            group.backend.plan(layout, bucket, plan)
            plans.append(plan)
        return StepInputs(
            tokens=tokens,
            positions=self._put(filled.positions),
            sample_rows=self._put(filled.sample_rows),
            attend=self._attention.bind(plans),
        )

    def _tokens(self, filled: Filled) -> Tensor:
        if not filled.sampled_last.numel():
            return self._put(filled.tokens)
        last = self._sampled_last.index_select(0, self._put(filled.sampled_last_slots))
        if last.numel() == filled.tokens.numel():
            return last
        return self._put(filled.tokens).index_copy_(0, self._put(filled.sampled_last), last)

    def _put(self, host: Tensor) -> Tensor:
        return host.to(self._device, non_blocking=True)


def _row_sizes(step: Step) -> list[RowSize]:
    ends = (step.num_computed + step.num_new).tolist()
    return [RowSize(new, end) for new, end in zip(step.num_new.tolist(), ends, strict=True)]
