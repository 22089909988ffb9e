"""What steps of a real run looked like: one JSON list of [new tokens, kv length] a row, one line a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield_platforms.bucket import Bucket, BucketPlan, Phase, Placement, RowSizes, phase_of

Rows = list[tuple[int, int]]
_decoder = msgspec.json.Decoder(Rows)


class Trace(msgspec.Struct, frozen=True, eq=False):
    """Recorded steps, each with one row at least."""

    steps: tuple[RowSizes, ...]

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read a file of steps; ValueError names the line that is none."""
        steps = []
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                steps.append(_step(line, f"{path}:{number}"))
        if not steps:
            raise ValueError(f"{path}: wanted one JSON list of [new tokens, kv length] pairs a line; the file is empty")
        return cls(tuple(steps))

    def launches(self, phase: Phase, block_size: int) -> npt.NDArray[np.int64]:
        """Tokens and the longest row's blocks of each step that is all decode rows, or of each that is not,
        `[steps, 2]`.
        """
        wanted = [step for step in self.steps if (phase_of(step.num_new) == "decode") == (phase == "decode")]
        pairs = [(int(step.num_new.sum()), -(-int(step.kv_len.max()) // block_size)) for step in wanted]
        return np.array(pairs, np.int64).reshape(-1, 2)


def _step(line: bytes, where: str) -> RowSizes:
    try:
        rows = np.array(_decoder.decode(line), np.int32).reshape(-1, 2)
    except msgspec.DecodeError as error:
        raise ValueError(f"{where}: wanted a JSON list of [new tokens, kv length] pairs; {error}") from error
    if not len(rows) or (rows[:, 0] < 1).any() or (rows[:, 1] < rows[:, 0]).any():
        raise ValueError(f"{where}: every row needs 1 <= new tokens <= kv length, and a step at least one row")
    return RowSizes(np.ascontiguousarray(rows[:, 0]), np.ascontiguousarray(rows[:, 1]))


class TraceWriter(BucketPlan):
    """A plan that also writes down every step that it places."""

    def __init__(self, plan: BucketPlan, path: Path) -> None:
        self._plan = plan
        self._path = path
        path.write_bytes(b"")

    def buckets(self) -> tuple[Bucket, ...]:
        return self._plan.buckets()

    def sampling_sizes(self) -> tuple[int, ...]:
        return self._plan.sampling_sizes()

    def sampling_rows(self, num_rows: int) -> int:
        return self._plan.sampling_rows(num_rows)

    @property
    def is_strict(self) -> bool:
        return self._plan.is_strict

    def strict(self) -> BucketPlan:
        return TraceWriter(self._plan.strict(), self._path)

    def place(self, need: RowSizes) -> tuple[Placement, ...]:
        rows: Sequence[list[int]] = np.stack((need.num_new, need.kv_len), axis=1).tolist()
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(rows) + b"\n")
        return self._plan.place(need)
