"""A model's programs captured once for every size, where the device can do that; refused ones run as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from torch import Tensor

from jackfield.models.interface import Hidden, Model, StepInputs
from jackfield.runner.attention_groups import AttentionGroup, PagedAttention
from jackfield.runner.programs import LaunchInputs, Programs
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import Elastic, GraphRunner, ProgramKey

FORWARD, LOGITS = "forward", "logits"


class _Forward(msgspec.Struct, frozen=True, eq=False):
    """The captured forward and what it reads: filled in place, as many rows as a launch has tokens."""

    key: ProgramKey
    step: StepInputs
    plans: list[Any]  # one a KV group
    hidden: Hidden  # as embed makes it


class _Logits(msgspec.Struct, frozen=True, eq=False):
    """The captured logits, and the rows `[most, hidden]` that they read."""

    key: ProgramKey
    rows: Tensor


class ElasticPrograms(Programs):
    """Runs forward and logits from captures that hold for any number of tokens; embed is one call as it is."""

    def __init__(
        self,
        model: Model,
        groups: Sequence[AttentionGroup],
        attention: PagedAttention,
        graphs: GraphRunner,
        elastic: Elastic,
    ) -> None:
        super().__init__(model, groups, attention, graphs)
        self._elastic = elastic
        self._forward: _Forward | None = None
        self._logits: _Logits | None = None

    def capture_any(self, bucket: Bucket, inputs: LaunchInputs, num_rows: int) -> dict[str, str | None]:
        """Capture forward at the tokens of `bucket`, the most of a launch, and logits at `num_rows`.

        By program why it is not captured, or None. `inputs` fill the bucket.
        """
        plans = self._blank_plans(bucket)
        step = self._step(inputs.on(self._device, copy=True), plans)
        self._plan(bucket, plans, inputs.layouts)
        hidden = {name: tensor.clone() for name, tensor in self._model.embed(step).items()}
        forward = _Forward(ProgramKey(FORWARD, bucket), step, plans, hidden)
        like = next(iter(hidden.values()))
        logits = _Logits(ProgramKey(LOGITS, bucket), like.new_zeros(num_rows, like.shape[-1]))
        answers = {FORWARD: self._capture_forward(forward), LOGITS: self._capture_logits(logits)}
        self._forward = forward if answers[FORWARD] is None else None
        self._logits = logits if answers[LOGITS] is None else None
        return answers

    def hidden(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        forward, num_tokens = self._forward, bucket.num_tokens
        if forward is None:
            return super().hidden(bucket, inputs)
        forward.step.positions[:num_tokens].copy_(inputs.positions)
        self._plan(bucket, forward.plans, inputs.layouts)
        embedded = self._model.embed(self._step(inputs.on(self._device), forward.plans))
        for name, tensor in embedded.items():
            forward.hidden[name][:num_tokens].copy_(tensor)
        result: Tensor = self._elastic.run(forward.key, num_tokens)["hidden"]
        return result[:num_tokens]

    def logits(self, rows: Tensor, size: int) -> Tensor:
        logits, num_rows = self._logits, len(rows)
        if logits is None:
            return super().logits(rows, size)
        logits.rows[:num_rows].copy_(rows)
        result: Tensor = self._elastic.run(logits.key, num_rows)
        return result[:num_rows]

    def _capture_forward(self, forward: _Forward) -> str | None:
        if refusing := self._attention.inelastic():
            return f"attention backend {', '.join(refusing)} may not be inside"
        if forward.step.adapters is not None:
            return "LoRA adapters are looked up token by token"
        buffers, size = (forward.hidden, forward.step), len(forward.step.positions)
        return self._answer(forward.key, self._model.forward, buffers, size)

    def _capture_logits(self, logits: _Logits) -> str | None:
        return self._answer(logits.key, self._model.logits, (logits.rows,), len(logits.rows))

    def _answer(self, key: ProgramKey, program: Any, buffers: tuple[Any, ...], size: int) -> str | None:
        if self._model.build.comm.size > 1:
            return "ranks exchange their sums in between"
        answer = self._elastic.capture(key, program, buffers, size)
        if isinstance(answer, str):
            return answer
        self._captures.num_bytes += answer
        return None


def programs(
    model: Model,
    groups: Sequence[AttentionGroup],
    attention: PagedAttention,
    graphs: GraphRunner,
    *,
    plans_sizes: bool,
) -> Programs:
    """Programs captured at the planned sizes; where none is planned, at any size if the device can."""
    elastic = "" if plans_sizes else graphs.elastic()
    if isinstance(elastic, str):
        return Programs(model, groups, attention, graphs)
    return ElasticPrograms(model, groups, attention, graphs, elastic)
