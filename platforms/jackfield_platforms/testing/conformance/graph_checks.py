"""Captured programs: a replay computes from what its buffers hold now, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.buffers import tensors
from jackfield_platforms.graph import EagerRunner, GraphRunner, ProgramKey
from jackfield_platforms.testing.conformance.mismatch import expect, near
from jackfield_platforms.testing.conformance.subject import Subject

_TOLERANCE = 1e-5  # a replay may take another kernel than eager did
_REPLAYS = 3


class Buffers(msgspec.Struct):
    """What the programs read, and a state that one of them writes."""

    x: Tensor  # [rows, 8]
    weight: Tensor  # [8, 8]
    rows: Tensor  # int64 [rows], places in the state
    state: Tensor  # [16, 8]

    @classmethod
    def draw(cls, rows: int, seed: int, device: torch.device) -> Buffers:
        """Random contents."""
        generator = torch.Generator().manual_seed(seed)
        x, weight, state = (torch.randn(shape, generator=generator) for shape in ((rows, 8), (8, 8), (16, 8)))
        places = torch.randperm(16, generator=generator)[:rows]
        return cls(*(tensor.to(device) for tensor in (x, weight, places, state)))

    def take(self, other: Buffers) -> None:
        """The contents of `other`, in place."""
        for name in self.__struct_fields__:
            getattr(self, name).copy_(getattr(other, name))


def _product(buffers: Buffers) -> dict[str, Tensor]:
    return {"hidden": torch.relu(buffers.x @ buffers.weight) + buffers.state.index_select(0, buffers.rows)}


def _difference(buffers: Buffers) -> dict[str, Tensor]:
    return {"hidden": buffers.x - buffers.x.mean(dim=0), "sums": buffers.state.sum(dim=1)}


def _writes(buffers: Buffers) -> dict[str, Tensor]:
    buffers.state.index_copy_(0, buffers.rows, buffers.x)
    return {"state": buffers.state * 2}


_PROGRAMS = {"product": _product, "difference": _difference, "writes": _writes}


class GraphCase(msgspec.Struct, frozen=True, eq=False):
    """A program for the platform's runner."""

    subject: Subject
    program: str

    def capture(self, runner: GraphRunner, rows: int, seed: int) -> tuple[ProgramKey, Buffers]:
        """Capture the program over buffers of its own; every capture has a key of its own."""
        buffers = Buffers.draw(rows, seed, self.subject.platform.device())
        key = ProgramKey(self.program, Bucket("decode", rows, rows), variant=uuid4().hex)
        taken = runner.capture(key, _PROGRAMS[self.program], (buffers,))
        expect(taken >= 0, f"capture says that it took {taken} bytes")
        return key, buffers

    def run(self, runner: GraphRunner, key: ProgramKey, buffers: Buffers) -> dict[str, Tensor]:
        """The program's outputs, when the device is done with them."""
        outputs: dict[str, Tensor] = runner.run(key, _PROGRAMS[self.program], (buffers,))
        self.subject.platform.synchronize(buffers.x.device)
        return outputs


def program(subject: Subject) -> Iterator[tuple[str, GraphCase]]:
    """Every program."""
    return ((name, GraphCase(subject, name)) for name in _PROGRAMS)


def capturing(subject: Subject) -> Iterator[tuple[str, GraphCase]]:
    """The same, where the platform captures at all."""
    return iter(()) if isinstance(subject.platform.graph_runner(), EagerRunner) else program(subject)


@torch.inference_mode()
def check_a_replay_equals_eager_on_new_contents(program: GraphCase, seed: int) -> None:
    """Inputs, and a state that the program itself writes, are read anew at each run."""
    runner = program.subject.platform.graph_runner()
    key, buffers = program.capture(runner, 5, seed)
    for replay in range(_REPLAYS):
        _replay(program, runner, (key, buffers), seed + 10 * replay + 1)


def _replay(case: GraphCase, runner: GraphRunner, captured: tuple[ProgramKey, Buffers], seed: int) -> None:
    """Run over contents of `seed`, and compare outputs and state with the program itself in float64."""
    key, buffers = captured
    fresh = Buffers.draw(len(buffers.x), seed, torch.device("cpu"))
    buffers.take(fresh)
    got = case.run(runner, key, buffers)
    wide = Buffers(fresh.x.double(), fresh.weight.double(), fresh.rows, fresh.state.double())
    wanted = _PROGRAMS[case.program](wide)
    expect(got.keys() == wanted.keys(), f"wanted outputs {sorted(wanted)}, found {sorted(got)}")
    for name, tensor in wanted.items():
        near(got[name], tensor, _TOLERANCE, f"output {name!r} of {case.program!r} over contents {seed}")
    near(buffers.state, wide.state, _TOLERANCE, f"the state after {case.program!r} over contents {seed}")


@torch.inference_mode()
def check_two_captures_do_not_disturb_each_other(program: GraphCase, seed: int) -> None:
    """The same program at two sizes, run in turn: each reads its own buffers, and its outputs outlive the other."""
    runner = program.subject.platform.graph_runner()
    small, large = program.capture(runner, 3, seed), program.capture(runner, 7, seed + 1)
    fresh = Buffers.draw(3, seed + 2, torch.device("cpu"))
    small[1].take(fresh)
    first = program.run(runner, *small)
    before = {name: tensor.cpu().clone() for name, tensor in tensors(first, "output").items()}
    _replay(program, runner, large, seed + 3)
    for name, tensor in tensors(first, "output").items():
        near(tensor, before[name].double(), 0.0, f"{name} of the small size after a run of the large one")
    _replay(program, runner, small, seed + 4)


@torch.inference_mode()
def check_outputs_keep_their_address(capturing: GraphCase, seed: int) -> None:
    """The next program is captured over them."""
    runner = capturing.subject.platform.graph_runner()
    key, buffers = capturing.capture(runner, 4, seed)
    places = []
    for replay in range(_REPLAYS):
        buffers.take(Buffers.draw(4, seed + replay, torch.device("cpu")))
        out = capturing.run(runner, key, buffers)
        places.append({name: tensor.data_ptr() for name, tensor in tensors(out, "output").items()})
    expect(all(place == places[0] for place in places), f"outputs moved from replay to replay: {places}")
