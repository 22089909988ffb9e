"""A program captured in pieces: cut where attention must run by itself, over bridges that the runner owns.

The model is written once. While its pieces are recorded, `attend` copies q, k and v into bridges, ends the piece and
begins the next, which reads attention's answer from another bridge. A replay runs piece, attention, piece, and so on;
attention then sees the step's own plan.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch
from torch import Tensor

from jackfield.models.interface import Hidden, StepInputs
from jackfield_platforms.attention import Rope
from jackfield_platforms.graph import Pieces, ProgramKey

Program = Callable[[Hidden, StepInputs], Hidden]


class Bridges:
    """Buffers that carry q, k and v out of a piece, and attention's answer into the next one.

    All layers and all sizes share them, since one attention is over before the next begins. What `attend` returned
    must therefore not be read after the next `attend`.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}

    def like(self, name: str, x: Tensor) -> Tensor:
        """A dense tensor of x's shape and dtype: the first rows of the buffer of that name."""
        key = (name, tuple(x.shape[1:]), x.dtype)
        if key not in self._buffers or len(self._buffers[key]) < len(x):
            self._buffers[key] = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        return self._buffers[key][: len(x)]


class Cut(msgspec.Struct, frozen=True, eq=False):
    """Attention between two pieces, over bridges."""

    layer: int
    q: Tensor
    k: Tensor
    v: Tensor
    rope: Rope | None
    out: Tensor

    def attend(self, step: StepInputs) -> None:
        """Run attention with the step's plan, out of the piece before and into the one behind."""
        self.out.copy_(step.attend(self.layer, self.q, self.k, self.v, self.rope))


class SplitProgram:
    """`program` at one size. `layers` are those whose attention no capture may hold."""

    def __init__(self, key: ProgramKey, pieces: Pieces, bridges: Bridges, layers: frozenset[int]) -> None:
        self._key, self._pieces, self._bridges, self._layers = key, pieces, bridges, layers
        self._cuts: list[Cut] = []
        self._piece_keys: list[ProgramKey] = []
        self._outputs: Hidden = {}

    def capture(self, program: Program, hidden: Hidden, step: StepInputs) -> int:
        """Record every piece; returns the bytes that they took.

        The program runs once as it is before: kernels get ready outside of any capture, and bridges get their sizes.
        """
        program(hidden, msgspec.structs.replace(step, attend=_Measuring(step, self._layers, self._bridges, self._cuts)))
        recorder = _Recorder(self._key, self._pieces, (hidden, step), self._cuts)
        try:
            self._outputs = program(hidden, msgspec.structs.replace(step, attend=recorder))
        finally:
            recorder.close()
        self._piece_keys = recorder.keys
        return recorder.num_bytes

    def run(self, hidden: Hidden, step: StepInputs) -> Hidden:
        """Replay the pieces, and attend between them; always the same tensors."""
        buffers = (hidden, step)
        for key, cut in zip(self._piece_keys, self._cuts, strict=False):  # behind the last piece there is no cut
            self._pieces.replay(key, buffers)
            cut.attend(step)
        self._pieces.replay(self._piece_keys[-1], buffers)
        return self._outputs


class _Measuring:
    """`Attend` that attends, and makes a cut with bridges of the right sizes wherever one will be needed."""

    def __init__(self, step: StepInputs, layers: frozenset[int], bridges: Bridges, cuts: list[Cut]) -> None:
        self._attend, self._layers, self._bridges, self._cuts = step.attend, layers, bridges, cuts

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor:
        out = self._attend(layer, q, k, v, rope)
        if layer in self._layers:
            like = self._bridges.like
            self._cuts.append(Cut(layer, like("q", q), like("k", k), like("v", v), rope, like("out", out)))
        return out


class _Recorder:
    """`Attend` that ends a piece and begins the next at each cut; other attention is recorded as part of its piece."""

    def __init__(self, key: ProgramKey, pieces: Pieces, buffers: tuple[Hidden, StepInputs], cuts: list[Cut]) -> None:
        self._pieces, self._buffers, self._cuts = pieces, buffers, cuts
        self._whole, self._is_open = key, False
        self.keys: list[ProgramKey] = []
        self.num_bytes = 0
        self._begin()

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor:
        number = len(self.keys) - 1
        if number == len(self._cuts) or self._cuts[number].layer != layer:
            attended: Tensor = self._buffers[1].attend(layer, q, k, v, rope)
            return attended
        cut = self._cuts[number]
        for bridge, tensor in ((cut.q, q), (cut.k, k), (cut.v, v)):
            bridge.copy_(tensor)
        self.close()
        self._begin()
        return cut.out

    def close(self) -> None:
        """The piece that was begun, if one was, is complete."""
        if self._is_open:
            self._is_open = False
            self.num_bytes += self._pieces.end(self.keys[-1])

    def _begin(self) -> None:
        self.keys.append(msgspec.structs.replace(self._whole, piece=len(self.keys)))
        self._pieces.begin(self.keys[-1], self._buffers)
        self._is_open = True
