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


class _Buffers(msgspec.Struct, frozen=True, eq=False):
    """What the captured forward reads: filled in place, as many rows as a launch has tokens."""

    step: StepInputs
    plans: list[Any]  # one a KV group
    hidden: Hidden  # as embed makes it


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
        self._buffers: _Buffers | None = None
        self._rows_buffer: Tensor | None = None
        self.answers: dict[str, str | None] = {}  # why each program is not captured; None: it is

    def capture_any(self, bucket: Bucket, inputs: LaunchInputs, num_rows: int) -> None:
        """Capture forward at the tokens of `bucket`, the most of a launch, and logits at `num_rows`, or learn why not.

        `inputs` fill the bucket; nothing of them is kept.
        """
        self._bucket, self._logits_key = bucket, ProgramKey(LOGITS, Bucket("decode", num_rows, num_rows))
        plans = self._blank_plans(bucket)
        step = self._step(inputs.tokens.clone(), inputs.positions.clone(), inputs.adapters, plans)
        self._plan(bucket, plans, inputs.layouts)
        hidden = self._model.embed(step)
        buffers = _Buffers(step, plans, {name: tensor.clone() for name, tensor in hidden.items()})
        self.answers[FORWARD] = self._capture_forward(buffers)
        if self.answers[FORWARD] is None:
            self._buffers = buffers
        like = next(iter(hidden.values()))
        rows = like.new_zeros(num_rows, like.shape[-1])
        self.answers[LOGITS] = self._capture_elastic(self._logits_key, self._model.logits, (rows,), num_rows)
        if self.answers[LOGITS] is None:
            self._rows_buffer = rows

    def hidden(self, bucket: Bucket, inputs: LaunchInputs) -> Tensor:
        buffers, num_tokens = self._buffers, bucket.num_tokens
        if buffers is None or num_tokens > self._bucket.num_tokens:
            return super().hidden(bucket, inputs)
        buffers.step.positions[:num_tokens].copy_(inputs.positions)
        self._plan(bucket, buffers.plans, inputs.layouts)
        embedded = self._model.embed(self._step(inputs.tokens, inputs.positions, None, buffers.plans))
        for name, tensor in embedded.items():
            buffers.hidden[name][:num_tokens].copy_(tensor)
        result: Tensor = self._elastic.run(self._forward_key, num_tokens)["hidden"]
        return result[:num_tokens]

    def logits(self, rows: Tensor, size: int) -> Tensor:
        buffer, num_rows = self._rows_buffer, len(rows)
        if buffer is None or num_rows > len(buffer):
            return super().logits(rows, size)
        buffer[:num_rows].copy_(rows)
        result: Tensor = self._elastic.run(self._logits_key, num_rows)
        return result[:num_rows]

    @property
    def _forward_key(self) -> ProgramKey:
        return ProgramKey(FORWARD, self._bucket)

    def _capture_forward(self, buffers: _Buffers) -> str | None:
        refusing = self._attention.uncapturable(self._bucket)
        if refusing:
            return f"attention backend {', '.join(sorted(set(refusing.values())))} may be in no capture"
        return self._capture_elastic(
            self._forward_key, self._model.forward, (buffers.hidden, buffers.step), self._bucket.num_tokens
        )

    def _capture_elastic(self, key: ProgramKey, program: Any, buffers: tuple[Any, ...], size: int) -> str | None:
        if self._model.build.comm.size > 1:
            return "ranks exchange their sums between its parts"
        answer = self._elastic.capture(key, program, buffers, size)
        if isinstance(answer, str):
            return answer
        self.captured_bytes += answer
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
