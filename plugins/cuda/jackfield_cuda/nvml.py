"""Asking NVIDIA's driver for its GPUs through NVML, the library that comes with it. Imports no torch.

Names and numbers are those of the NVML API Reference Guide: nvmlReturn_t, nvmlMemory_t and the functions below.
"""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec

LIBRARY = "libnvidia-ml.so.1"
_SUCCESS, _DRIVER_NOT_LOADED = 0, 9
_TEXT = 96  # bytes; NVML_DEVICE_NAME_V2_BUFFER_SIZE, more than a driver's version takes


class Gpu(msgspec.Struct, frozen=True):
    """One GPU of the machine, in the order of its PCI bus."""

    name: str
    capability: tuple[int, int]
    memory: int  # bytes


class Driver(msgspec.Struct, frozen=True):
    """What the driver says."""

    version: str
    gpus: tuple[Gpu, ...]


class NoDriverError(Exception):
    """There is no driver: the library is missing, or the kernel module is not loaded."""


class DriverError(Exception):
    """There is a driver, and it cannot be asked. The message is NVML's own."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def load() -> Any:
    """The library; NoDriverError where it is not found."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoDriverError(f"{LIBRARY} is not found") from error


def ask(library: Any) -> Driver:
    """The driver's version and its GPUs. NoDriverError, DriverError."""
    status = library.nvmlInit_v2()
    if status == _DRIVER_NOT_LOADED:
        raise NoDriverError("NVML is installed, and the driver's kernel module is not loaded")
    _check(library, status)
    try:
        count = ctypes.c_uint()
        _check(library, library.nvmlDeviceGetCount_v2(ctypes.byref(count)))
        version = ctypes.create_string_buffer(_TEXT)
        _check(library, library.nvmlSystemGetDriverVersion(version, ctypes.c_uint(_TEXT)))
        return Driver(version.value.decode(), tuple(_gpu(library, index) for index in range(count.value)))
    finally:
        library.nvmlShutdown()


def _gpu(library: Any, index: int) -> Gpu:
    handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(_TEXT), _Memory()
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library, library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)))
    _check(library, library.nvmlDeviceGetName(handle, name, ctypes.c_uint(_TEXT)))
    _check(
        library,
        library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)),
    )
    _check(library, library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
    return Gpu(name.value.decode(), (major.value, minor.value), int(memory.total))


def _check(library: Any, status: int) -> None:
    if status == _SUCCESS:
        return
    library.nvmlErrorString.restype = ctypes.c_char_p
    raise DriverError(f"{library.nvmlErrorString(status).decode()} (NVML code {status})")
