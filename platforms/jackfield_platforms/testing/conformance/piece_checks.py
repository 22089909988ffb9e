"""Programs captured in pieces: each replays from its buffers as they are now, and what lies between stays outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import torch
from torch import Tensor

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import Pieces, ProgramKey
from jackfield_platforms.testing.conformance.graph_checks import Buffers
from jackfield_platforms.testing.conformance.mismatch import expect, near
from jackfield_platforms.testing.conformance.subject import Subject

_TOLERANCE = 1e-5  # a replay may take another kernel than eager did
_REPLAYS = 4

Between = Callable[[Tensor], Tensor]


def _program(buffers: Buffers, between: Between) -> Tensor:
    """Three stretches. What the first makes is read by both others; the second writes a state that the third reads."""
    first = torch.relu(buffers.x @ buffers.weight)
    second = between(first) + first
    buffers.state.index_copy_(0, buffers.rows, second)
    return between(second) * 2 + first + buffers.state.index_select(0, buffers.rows)


def _between(x: Tensor, turn: float) -> Tensor:
    """What runs by itself, as attention would; `turn` is another number at each step."""
    return x.roll(1, dims=1) * turn


class SplitCase:
    """The program cut twice, for the platform's runner."""

    def __init__(self, subject: Subject, pieces: Pieces) -> None:
        self.subject, self.pieces = subject, pieces

    def capture(self, rows: int, seed: int) -> Captured:
        """Capture it over buffers of its own; every capture has keys of its own."""
        return Captured(self, rows, seed)

    def put(self, tensor: Tensor) -> Tensor:
        """On the device."""
        return tensor.to(self.subject.platform.device())


class Captured:
    """The captured program, its buffers and the bridges over its cuts."""

    def __init__(self, case: SplitCase, rows: int, seed: int) -> None:
        self._case, self._pieces = case, case.pieces
        self.buffers = Buffers.draw(rows, seed, case.subject.platform.device())
        self._into, self._out_of = (case.put(torch.zeros(rows, 8)) for _ in range(2))
        self.gap = case.put(torch.zeros(1))  # counts what ran between two pieces
        key = ProgramKey("pieces", Bucket("decode", rows, rows), variant=uuid4().hex)
        self._keys = [ProgramKey(key.program, key.bucket, key.variant, piece) for piece in range(3)]
        _program(self.buffers, lambda x: _between(x, 1.0))
        self._number = 0
        self._begin()
        self._result = _program(self.buffers, self._cut)
        self._end()

    def _begin(self) -> None:
        self._pieces.begin(self._keys[self._number], (self.buffers,))

    def _end(self) -> None:
        taken = self._pieces.end(self._keys[self._number])
        expect(taken >= 0, f"the end of a piece says that it took {taken} bytes")

    def _cut(self, x: Tensor) -> Tensor:
        self._out_of.copy_(x)
        self._end()
        self.gap += 1
        self._number += 1
        self._begin()
        return self._into

    def run(self, fresh: Buffers, turn: float) -> Tensor:
        """The program over contents of `fresh`, when the device is done with it."""
        self.buffers.take(fresh)
        for key in self._keys[:-1]:
            self._pieces.replay(key, (self.buffers,))
            self._into.copy_(_between(self._out_of, turn))
        self._pieces.replay(self._keys[-1], (self.buffers,))
        self._case.subject.platform.synchronize(self._result.device)
        return self._result

    def check(self, seed: int) -> Tensor:
        """Run over contents of `seed`, and compare result and state with the program itself in float64."""
        fresh = Buffers.draw(len(self.buffers.x), seed, torch.device("cpu"))
        turn = 1.0 + seed % 7
        wide = Buffers(fresh.x.double(), fresh.weight.double(), fresh.rows, fresh.state.double())
        wanted = _program(wide, lambda x: _between(x, turn))
        got = self.run(fresh, turn)
        near(got, wanted, _TOLERANCE, f"the result over contents {seed}")
        near(self.buffers.state, wide.state, _TOLERANCE, f"the state over contents {seed}")
        return got


def split(subject: Subject) -> Iterator[tuple[str, SplitCase]]:
    """Where the platform's runner captures in pieces."""
    runner = subject.platform.graph_runner()
    pieces = runner.pieces() if runner.captures else ""
    return iter(()) if isinstance(pieces, str) else iter([("pieces", SplitCase(subject, pieces))])


@torch.inference_mode()
def check_pieces_equal_eager_on_new_contents(split: SplitCase, seed: int) -> None:
    """Inputs, a state, bridges and what earlier pieces made are read anew at each run, wherever it was cut."""
    captured = split.capture(5, seed)
    places = {captured.check(seed + 10 * replay + 1).data_ptr() for replay in range(_REPLAYS)}
    expect(len(places) == 1, "the result moved from replay to replay")


@torch.inference_mode()
def check_pieces_of_two_sizes_do_not_disturb_each_other(split: SplitCase, seed: int) -> None:
    """Two sizes in turn: each reads its own buffers, and the result of one outlives a run of the other."""
    large, small = split.capture(7, seed), split.capture(3, seed + 1)
    got = small.check(seed + 2)
    before = got.cpu().clone()
    large.check(seed + 3)
    near(got, before.double(), 0.0, "the result of the small size after a run of the large one")
    small.check(seed + 4)


@torch.inference_mode()
def check_what_runs_between_pieces_is_not_replayed(split: SplitCase, seed: int) -> None:
    """An operation between the end of a piece and the beginning of the next one belongs to neither."""
    captured = split.capture(4, seed)
    fresh = Buffers.draw(4, seed + 1, torch.device("cpu"))
    for _ in range(_REPLAYS):
        captured.run(fresh, 1.0)
    ran = float(captured.gap.cpu())
    expect(ran == 2, f"what ran twice, between the captures, ran {ran:g} times after {_REPLAYS} replays")
