"""Programs that the kernels run in one call: what Python asked of them is recorded once, and made again at any size."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from jackfield_cpu.kernels import Kernels
from jackfield_platforms.graph import EagerRunner, Elastic, ProgramKey

_ALIGNMENT = 64  # bytes
_EMPTY = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})


class NativeGraphs(EagerRunner):
    """Captures no program at one size: at few tokens padding costs what tokens do."""

    def __init__(self, kernels: Kernels | str) -> None:
        self.kernels = kernels

    def elastic(self) -> Elastic | str:
        return self.kernels if isinstance(self.kernels, str) else NativeRecorder(self.kernels)


class NativeRecorder(Elastic):
    """Records what a program asks of the kernels. A program that computes anything elsewhere is refused by name.

    All programs share the memory of what they make and nobody reads later.
    """

    def __init__(self, kernels: Kernels) -> None:
        self._kernels, self._memory = kernels, _Memory()
        self._recorded: dict[ProgramKey, _Recorded] = {}

    def capture(
        self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...], num_tokens: int
    ) -> int | str:
        library, before = self._kernels.library, self._memory.num_bytes
        library.jackfield_record(num_tokens)
        try:
            with _Watch(self._memory):
                outputs = program(*buffers)
        except _ComputesElsewhereError as refusal:
            library.jackfield_forget(library.jackfield_recorded())
            return str(refusal)
        except BaseException:
            library.jackfield_forget(library.jackfield_recorded())
            raise
        address = library.jackfield_recorded()
        why: bytes = library.jackfield_recording_refusal(address)
        if why:
            library.jackfield_forget(address)
            return why.decode()
        self._recorded[key] = _Recorded(address, num_tokens, outputs, (program, buffers))
        weakref.finalize(self, library.jackfield_forget, address).atexit = False
        return self._memory.num_bytes - before

    def run(self, key: ProgramKey, num_tokens: int) -> Any:
        recorded = self._recorded[key]
        if not 0 <= num_tokens <= recorded.num_tokens:
            raise ValueError(f"num_tokens must be 0 to {recorded.num_tokens}, which were captured; got {num_tokens}")
        self._kernels.library.jackfield_replay(recorded.address, num_tokens)
        return recorded.outputs


class _Recorded(msgspec.Struct, frozen=True, eq=False):
    address: int
    num_tokens: int
    outputs: Any
    held: tuple[Any, ...]  # the recording points into what these own


class _ComputesElsewhereError(Exception):
    """The message names the operation."""


class _Watch(TorchDispatchMode):
    """Lets views pass, takes new tensors out of `memory`, and refuses every operation that computes."""

    def __init__(self, memory: _Memory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory = memory

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled while recording; True would import all of torch's compiler at every start

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = func._schema
        if schema.name.removeprefix("aten::") in _EMPTY:
            return self._memory.like(func(*args, **(kwargs or {})))
        if not _may_be_view(schema):
            raise _ComputesElsewhereError(f"{func} computes outside of the kernels")
        result = func(*args, **(kwargs or {}))
        given = {_storage(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        if any(_storage(leaf) not in given for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)):
            raise _ComputesElsewhereError(f"{func} copies outside of the kernels")
        return result


def _may_be_view(schema: Any) -> bool:
    """Whether all that an operation gives may be parts of what it is given, which it leaves as it is."""
    aliases = [result.alias_info for result in schema.returns]
    return not schema.is_mutable and bool(aliases) and all(aliases)


def _storage(tensor: Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata
    return identity


class _Memory:
    """Blocks for the tensors that programs make. A block is free when the last tensor over it is gone: what is
    recorded later may use it again, since programs run one after another.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = {}  # by size
        self.num_bytes = 0

    def like(self, x: Tensor) -> Tensor:
        """A tensor of x's shape and strides, of any contents."""
        size = -(-max(x.untyped_storage().nbytes(), 1) // _ALIGNMENT) * _ALIGNMENT
        free = self._free.setdefault(size, [])
        block = free.pop() if free else self._block(size)
        lent = block[:]  # its life is that of the tensors over it
        weakref.finalize(lent, free.append, block).atexit = False
        return torch.from_numpy(lent).view(x.dtype).as_strided(x.shape, x.stride())

    def _block(self, size: int) -> npt.NDArray[np.uint8]:
        self.num_bytes += size
        room = np.empty(size + _ALIGNMENT, np.uint8)
        first = -room.ctypes.data % _ALIGNMENT
        return room[first : first + size]
