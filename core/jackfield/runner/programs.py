"""A model's programs over device buffers: replayed where a bucket was captured, run over the step's own tensors where
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from torch import Tensor

from jackfield.models.interface import Model, StepInputs
from jackfield.runner.attention_groups import AttentionGroup, PagedAttention
from jackfield.runner.split_program import Bridges, SplitProgram
from jackfield_platforms.attention import Layout
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import GraphRunner, ProgramKey
from jackfield_platforms.refusal import Refused


class LaunchInputs(msgspec.Struct, frozen=True, eq=False):
    """What one launch reads, on the device but for the layouts."""

    tokens: Tensor  # [bucket.num_tokens] int64
    positions: Tensor  # [bucket.num_tokens] int64
    layouts: tuple[Layout, ...]  # one a KV group
    adapters: Tensor | None = None  # [bucket.num_tokens] int64, where LoRA is served


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
        self._bridges = Bridges()
        self._captured: dict[Bucket, _Captured] = {}
        self._rows: dict[int, Tensor] = {}  # rows for logits, by how many
        self.captured_bytes = 0

    def is_captured(self, bucket: Bucket) -> bool:
        """Whether `hidden` replays this bucket."""
        return bucket in self._captured

    def capture(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        """Make the bucket's buffers and capture its programs over them, filled with `inputs`; their hidden states."""
        plans = self._blank_plans(bucket)
        adapters = None if inputs.adapters is None else inputs.adapters.clone()
        step = self._step(inputs.tokens.clone(), inputs.positions.clone(), adapters, plans)
        self._plan(bucket, plans, inputs.layouts)
        split = self._split(bucket)
        self._captured[bucket] = _Captured(step, plans, split)
        hidden = self._capture("embed", bucket, self._model.embed, step)
        if split is None:
            result: Tensor = self._capture("forward", bucket, self._model.forward, hidden, step)["hidden"]
            return result
        self.captured_bytes += split.capture(self._model.forward, hidden, step)
        return split.run(hidden, step)["hidden"]

    def capture_logits(self, rows: Tensor) -> None:
        """Capture the logits of as many rows as `rows` `[n, hidden]` has."""
        self._rows[len(rows)] = kept = rows.clone()
        self._capture("logits", _rows_bucket(len(rows)), self._model.logits, kept)

    def hidden(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        """Hidden states of a launch, `[bucket.num_tokens, hidden]`, valid until the bucket's next launch."""
        captured = self._captured.get(bucket)
        split = None
        if captured is None:
            plans = self._blank_plans(bucket)
            step = self._step(inputs.tokens, inputs.positions, inputs.adapters, plans)
        else:
            step, plans, split = captured.step, captured.plans, captured.forward
            step.tokens.copy_(inputs.tokens)
            step.positions.copy_(inputs.positions)
            if step.adapters is not None and inputs.adapters is not None:
                step.adapters.copy_(inputs.adapters)
        self._plan(bucket, plans, inputs.layouts)
        hidden = self._run("embed", bucket, self._model.embed, step)
        if split is not None:
            return split.run(hidden, step)["hidden"]
        result: Tensor = self._run("forward", bucket, self._model.forward, hidden, step)["hidden"]
        return result

    def logits(self, rows: Tensor, size: int) -> Tensor:
        """Logits of `rows` `[n, hidden]`, run at `size` rows; `[n, vocab]`, valid until the next of that size."""
        kept = self._rows.get(size)
        if kept is None:
            result: Tensor = self._run("logits", _rows_bucket(len(rows)), self._model.logits, rows)
            return result
        kept[: len(rows)].copy_(rows)
        logits: Tensor = self._run("logits", _rows_bucket(size), self._model.logits, kept)
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

    def _step(self, tokens: Tensor, positions: Tensor, adapters: Tensor | None, plans: list[Any]) -> StepInputs:
        attend = self._attention.bind(plans)
        return StepInputs(tokens=tokens, positions=positions, attend=attend, adapters=adapters)

    def _blank_plans(self, bucket: Bucket) -> list[Any]:
        return [group.backend.blank(bucket) for group in self._groups]

    def _plan(self, bucket: Bucket, plans: list[Any], layouts: tuple[Layout, ...]) -> None:
        for group, plan, layout in zip(self._groups, plans, layouts, strict=True):
            group.backend.plan(layout, bucket, plan)

    def _capture(self, name: str, bucket: Bucket, program: Any, *buffers: Any) -> Any:
        key = ProgramKey(name, bucket)
        self.captured_bytes += self._graphs.capture(key, program, buffers)
        return self._graphs.run(key, program, buffers)

    def _run(self, name: str, bucket: Bucket, program: Any, *buffers: Any) -> Any:
        return self._graphs.run(ProgramKey(name, bucket), program, buffers)


def _rows_bucket(num_rows: int) -> Bucket:
    return Bucket("decode", num_rows=num_rows, num_tokens=num_rows)
