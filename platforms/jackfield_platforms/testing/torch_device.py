"""A torch device of any name whose kernels run on the CPU: PyTorch's slot for out-of-tree devices, filled in Python.

A device tensor is a plain `torch.Tensor` over counted host memory: its DLPack capsule says which device it is on, and
saying otherwise moves it without a copy. Views keep their storage; every other operation runs on the host's alias of
its arguments, and refuses host tensors among them, as a real device does.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from jackfield_platforms.testing.device_memory import DeviceMemory
from jackfield_platforms.testing.source_line import calling_line

_ON_HOST, _ON_DEVICE = 1, 12  # DLPack's codes of the CPU and of an extension device
_DEVICE_OFFSET = 8  # of the device's code in a DLTensor, after the data pointer
_KEY = "PrivateUse1"
_VIEWS = (
    "as_strided",
    "view",
    "_reshape_alias",
    "unfold",
    "view.dtype",
    "set_.source_Storage",
    "set_.source_Storage_storage_offset",
    "set_.source_Tensor",
)
_READS = {getattr(Tensor, name) for name in ("item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__int__")}
_READS |= {Tensor.__float__, Tensor.__index__}
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class HostCopyError(RuntimeError):
    """A value was read on the host where nothing may wait for the device."""


class TorchDevice:
    """The one emulated device of a process; see `install`."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.memory = name, DeviceMemory(limit)
        self.ops: Counter[str] = Counter()
        self.compiled: set[tuple[Any, ...]] = set()  # operations, each at the sizes and plain values that it had
        self.to_device = self.to_host = 0  # copies
        self.guarded = False  # whether copies to the host need `reading`
        self._reading = 0
        self._libraries: list[torch.library.Library] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Within it, copies to the host are meant."""
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    def host_copy(self, what: str) -> None:
        """Count a copy to the host; HostCopyError while it is not meant."""
        self.forbid(what)
        self.to_host += 1

    def forbid(self, what: str) -> None:
        """HostCopyError while copies to the host are not meant. `what` reads a value."""
        if not self.guarded or self._reading:
            return
        line = calling_line()
        raise HostCopyError(
            f"{what} reads device {self.name!r} on the host in the middle of a step, which waits for all that was "
            f"launched{f' (at {line})' if line else ''}. In a program, such as attention's `run`, keep the value in a "
            "tensor (torch.where, masks, index_select), or compute it on the host in `plan`; a result is read through "
            "Platform.fetch, anything else after Platform.synchronize"
        )

    def holds(self, value: Any) -> bool:
        """Whether it is a tensor of this device."""
        return isinstance(value, Tensor) and value.device.type == self.name

    def alias(self, value: Any) -> Any:
        """The host's view of a device tensor; anything else as it is."""
        if self.holds(value):
            return _moved(value, _ON_HOST)
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == self.name else value

    def place(self, computed: Tensor) -> Tensor:
        """A device tensor of the same numbers, in counted memory."""
        return _moved(self.memory.hold(computed), _ON_DEVICE)

    def register(self) -> None:
        """Make PyTorch send this device's operations here."""
        aten, everything = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
        everything.fallback(self._run, _KEY)
        for name in _VIEWS:
            aten.impl(name, _on_metadata(name), _KEY)
        own = {
            "empty.memory_format": self._empty,
            "empty_strided": self._empty_strided,
            "_copy_from": self._copy,
            "_copy_from_and_resize": self._copy,
            "_local_scalar_dense": self._item,
            "_fused_sdp_choice": lambda *args, **kwargs: 0,  # composite attention, out of the operations above
        }
        for name, function in own.items():
            aten.impl(name, function, _KEY)
        self._libraries = [aten, everything]  # they unregister when they are collected

    def _run(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        """Any operation without a kernel of its own: on the host's aliases, results placed on the device."""
        self.ops[op.name()] += 1
        flat, spec = pytree.tree_flatten((_integers_as_tensors(op, args), kwargs))
        self._check(op, flat)
        self.compiled.add((op.name(), *(_static(value) for value in flat)))
        host = [self.alias(value) for value in flat]
        given = {id(alias): value for alias, value in zip(host, flat, strict=True) if self.holds(value)}
        host_args, host_kwargs = pytree.tree_unflatten(host, spec)
        grown = _growing_outputs(op, host_kwargs, given)
        results = op(*host_args, **host_kwargs)

        def back(result: Tensor) -> Tensor:
            if id(result) in given:  # written in place
                written: Tensor = given[id(result)]
                return written
            placed = self.place(result)
            if id(result) in grown:
                grown[id(result)].set_(placed)  # type: ignore[call-overload]
                return grown[id(result)]
            return placed

        return pytree.tree_map_only(Tensor, back, results)

    def _check(self, op: Any, values: list[Any]) -> None:
        for value in values:
            if isinstance(value, Tensor) and value.dim() and not self.holds(value):
                raise RuntimeError(
                    f"{op.name()}: expected all tensors on device {self.name!r}; got one of {tuple(value.shape)} on "
                    f"{value.device}"
                )

    def _empty(
        self,
        size: Any,
        *,
        dtype: Any = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: Any = None,
        memory_format: Any = None,
    ) -> Tensor:
        return _moved(self.memory.empty(size, None, dtype or torch.get_default_dtype()), _ON_DEVICE)

    def _empty_strided(
        self,
        size: Any,
        stride: Any,
        *,
        dtype: Any = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: Any = None,
    ) -> Tensor:
        return _moved(self.memory.empty(size, stride, dtype or torch.get_default_dtype()), _ON_DEVICE)

    def _copy(self, source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
        if target.device.type == "cpu":
            self.host_copy("a copy (`.cpu()`, `.tolist()`, `copy_` into a host tensor)")
        elif source.device.type == "cpu":
            self.to_device += 1
        self.alias(target).copy_(self.alias(source))
        return target

    def _item(self, tensor: Tensor) -> Any:
        self.host_copy("a tensor's value (`.item()`, `int()`, `bool()`, an `if`)")
        return self.alias(tensor).item()


class NamedReads(TorchFunctionMode):
    """Within it, what reads a tensor on the host is refused by the name that Python calls it by.

    Torch itself would tell a program that calls `numpy()` to call `cpu()` first, which it must not either.
    """

    def __init__(self, device: TorchDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS and self._device.holds(args[0]):
            self._device.forbid(f"Tensor.{func.__name__}()")
        return func(*args, **(kwargs or {}))


class _Module(_DummyBackendModule):  # torch.<name>
    Stream, Event = torch.Stream, torch.Event  # torch.compile looks for them at devices whose names it knows

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def install(name: str, limit: int) -> TorchDevice:
    """Give this process a device called `name` of `limit` bytes, or the one it has; RuntimeError for another name.

    A process can rename PyTorch's slot once.
    """
    taken = torch._C._get_privateuse1_backend_name()
    if taken not in (name, "privateuseone"):
        raise RuntimeError(f"wanted device {name!r}; this process emulates {taken!r} already. Start another")
    device = _registered(name)
    device.memory.limit = limit
    return device


@functools.cache
def _registered(name: str) -> TorchDevice:
    """The device of this process: PyTorch keeps one, so this does too."""
    _setup_privateuseone_for_python_backend(name, backend_module=_Module())
    device = TorchDevice(name, limit=0)
    device.register()
    return device


def _static(value: Any) -> Any:
    """What of an argument a compiled operation is bound to."""
    return (value.shape, value.dtype) if isinstance(value, Tensor) else repr(value)


def _moved(tensor: Tensor, code: int) -> Tensor:
    """The same memory said to be elsewhere. DLPack leaves out the memory of empty tensors, so those are made anew."""
    capsule = torch._C._to_dlpack(tensor)
    ctypes.c_int32.from_address(_pointer_of(capsule, b"dltensor") + _DEVICE_OFFSET).value = code
    moved: Tensor = torch._C._from_dlpack(capsule)
    return moved


def _on_metadata(name: str) -> Any:
    """The CPU's kernel of a view, which touches no memory and keeps the storage."""
    packet, _, overload = name.partition(".")
    op = getattr(getattr(torch.ops.aten, packet), overload or "default")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    return lambda *args, **kwargs: op.redispatch(keys, *args, **kwargs)


def _integers_as_tensors(op: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """`x & 15` arrives here as an operation on two tensors with a plain 15, which the operation itself refuses."""
    if "out" not in op._overloadname:  # where there is one, it fixes the dtype
        return args
    kinds = [str(argument.type) for argument in op._schema.arguments]
    pairs = zip(args, kinds, strict=False)
    return tuple(torch.tensor(arg) if kind == "Tensor" and isinstance(arg, int) else arg for arg, kind in pairs)


def _growing_outputs(op: Any, kwargs: dict[str, Any], given: dict[int, Tensor]) -> dict[int, Tensor]:
    """Empty `out` tensors, replaced by host ones that can grow; the device tensors by their stand-ins' ids."""
    grown = {}
    for argument in op._schema.arguments:
        out = kwargs.get(argument.name) if argument.is_out else None
        if isinstance(out, Tensor) and out.numel() == 0 and id(out) in given:
            device = given.pop(id(out))
            kwargs[argument.name] = torch.empty(0, dtype=device.dtype)
            grown[id(kwargs[argument.name])] = device
    return grown
