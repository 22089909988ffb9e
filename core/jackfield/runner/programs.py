"""A model's programs over device buffers: replayed where a bucket was captured, run over the step's own tensors where
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from jackfield.models.interface import Model, StepInputs
from jackfield.runner.attention_groups import AttentionGroup, PagedAttention
from jackfield.runner.captures import Captures
from jackfield.runner.split_program import Bridges, SplitProgram
from jackfield_platforms.attention import Layout
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import GraphRunner, ProgramKey
from jackfield_platforms.refusal import Refused


class LaunchInputs(msgspec.Struct, frozen=True, eq=False):
    """What one launch reads. Tensors may still be on the host."""

    tokens: Tensor  # [bucket.num_tokens] int64
    positions: Tensor  # [bucket.num_tokens] int64
    layouts: tuple[Layout, ...]  # one a KV group
    adapters: Tensor | None = None  # [bucket.num_tokens] int64, where LoRA is served

    def on(self, device: torch.device, *, copy: bool = False) -> LaunchInputs:
        """The same on the device; `copy`: in memory of its own."""
        tokens, positions, adapters = (
            None if tensor is None else tensor.to(device, non_blocking=True, copy=copy)
            for tensor in (self.tokens, self.positions, self.adapters)
        )
        assert tokens is not None
        assert positions is not None
        return LaunchInputs(tokens, positions, self.layouts, adapters)


class _Captured(msgspec.Struct, frozen=True, eq=False):
    """Buffers that a bucket's captures read: they belong to it and are filled in place."""

    step: StepInputs
    plans: list[Any]  # one a KV group
    forward: SplitProgram | None  # None: captured whole


class Programs:
    """Runs embed, forward and logits in buckets. Forward is captured in pieces where attention may be in no capture."""

    def __init__(
        self, model: Model, groups: Sequence[AttentionGroup], attention: PagedAttention, graphs: GraphRunner
    ) -> None:
        self._model, self._groups, self._attention, self._graphs = model, groups, attention, graphs
        self._device = model.build.device
        self._captures = Captures(graphs)
        self._bridges = Bridges()
        self._captured: dict[Bucket, _Captured] = {}
        self._rows: dict[int, Tensor] = {}  # rows for logits, by how many

    @property
    def captured_bytes(self) -> int:
        """What all captures took."""
        return self._captures.num_bytes

    def is_captured(self, bucket: Bucket) -> bool:
        """Whether `hidden` replays this bucket."""
        return bucket in self._captured

    def capture(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        """Make the bucket's buffers and capture its programs over them, filled with `inputs`; their hidden states."""
        plans = self._blank_plans(bucket)
        step = self._step(inputs.on(self._device, copy=True), plans)
        self._plan(bucket, plans, inputs.layouts)
        split = self._split(bucket)
        self._captured[bucket] = _Captured(step, plans, split)
        hidden = self._captures.capture("embed", bucket, self._model.embed, step)
        if split is None:
            result: Tensor = self._captures.capture("forward", bucket, self._model.forward, hidden, step)["hidden"]
            return result
        self._captures.num_bytes += split.capture(self._model.forward, hidden, step)
        return split.run(hidden, step)["hidden"]

    def capture_logits(self, rows: Tensor) -> None:
        """Capture the logits of as many rows as `rows` `[n, hidden]` has."""
        self._rows[len(rows)] = kept = rows.clone()
        self._captures.capture("logits", len(rows), self._model.logits, kept)

    def hidden(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        """Hidden states of a launch, `[bucket.num_tokens, hidden]`, valid until the bucket's next launch."""
        captured = self._captured.get(bucket)
        split = None
        if captured is None:
            plans = self._blank_plans(bucket)
            step = self._step(inputs.on(self._device), plans)
        else:
            step, plans, split = captured.step, captured.plans, captured.forward
            step.tokens.copy_(inputs.tokens, non_blocking=True)
            step.positions.copy_(inputs.positions, non_blocking=True)
            if step.adapters is not None and inputs.adapters is not None:
                step.adapters.copy_(inputs.adapters, non_blocking=True)
        self._plan(bucket, plans, inputs.layouts)
        hidden = self._captures.run("embed", bucket, self._model.embed, step)
        if split is not None:
            return split.run(hidden, step)["hidden"]
        result: Tensor = self._captures.run("forward", bucket, self._model.forward, hidden, step)["hidden"]
        return result

    def logits(self, rows: Tensor, size: int) -> Tensor:
        """Logits of `rows` `[n, hidden]`, run at `size` rows; `[n, vocab]`, valid until the next of that size."""
        kept = self._rows.get(size)
        if kept is None:
            result: Tensor = self._captures.run("logits", len(rows), self._model.logits, rows)
            return result
        kept[: len(rows)].copy_(rows)
        logits: Tensor = self._captures.run("logits", size, self._model.logits, kept)
        return logits[: len(rows)]

    def _split(self, bucket: Bucket) -> SplitProgram | None:
        """How forward is captured where attention may not be; None: whole. Refused tells when neither can be."""
        layers = self._attention.uncapturable(bucket) if self._graphs.captures else {}
        if not layers:
            return None
        pieces = self._graphs.pieces()
        if isinstance(pieces, str):
            raise Refused(
                f"Attention backend {', '.join(sorted(set(layers.values())))} may be in no capture at "
                f"{bucket.describe()} (its `graphs` says so), and this platform's graph runner cannot capture around "
                f"it: {pieces}. Choose another backend, or a bucket plan without that size."
            )
        return SplitProgram(ProgramKey("forward", bucket), pieces, self._bridges, frozenset(layers))

    def _step(self, inputs: LaunchInputs, plans: list[Any]) -> StepInputs:
        attend = self._attention.bind(plans)
        return StepInputs(tokens=inputs.tokens, positions=inputs.positions, attend=attend, adapters=inputs.adapters)

    def _blank_plans(self, bucket: Bucket) -> list[Any]:
        return [group.backend.blank(bucket) for group in self._groups]

    def _plan(self, bucket: Bucket, plans: list[Any], layouts: tuple[Layout, ...]) -> None:
        for group, plan, layout in zip(self._groups, plans, layouts, strict=True):
            group.backend.plan(layout, bucket, plan)
