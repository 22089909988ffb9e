"""What each generation of GPUs can do, as data. Nothing here asks a device, or imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

_KIB = 1 << 10


class Arch(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of GPU.

    `dtypes` are those that its matrix units multiply, best first, and float32. `fp8` is the torch dtype of 8-bit floats
    that they multiply, or None. Sources: the tables of compute capabilities in NVIDIA's CUDA C++ Programming Guide, and
    AMD's ROCm pages "Accelerator and GPU hardware specifications" and "Precision support".
    """

    name: str  # "sm_90", "gfx942"
    vendor: Literal["nvidia", "amd"]
    dtypes: tuple[str, ...]
    fp8: str | None
    shared_bytes: int  # that one thread block may take (AMD: local data share)
    warp: int  # threads that run together


class UnknownArchError(ValueError):
    """A GPU that the kernels were not written for. The message says which are known."""


class _Nvidia(msgspec.Struct, frozen=True):
    first: tuple[int, int]  # the lowest compute capability that it holds for
    dtypes: tuple[str, ...]
    fp8: str | None
    shared_kib: int


_WITH_BFLOAT16 = ("bfloat16", "float16", "float32")

# from the newest on; the first that a device reaches holds
_NVIDIA = (
    _Nvidia((12, 0), _WITH_BFLOAT16, "float8_e4m3fn", 99),
    _Nvidia((10, 0), _WITH_BFLOAT16, "float8_e4m3fn", 227),
    _Nvidia((9, 0), _WITH_BFLOAT16, "float8_e4m3fn", 227),
    _Nvidia((8, 9), _WITH_BFLOAT16, "float8_e4m3fn", 99),
    _Nvidia((8, 8), _WITH_BFLOAT16, None, 99),
    _Nvidia((8, 7), _WITH_BFLOAT16, None, 163),
    _Nvidia((8, 6), _WITH_BFLOAT16, None, 99),
    _Nvidia((8, 0), _WITH_BFLOAT16, None, 163),
)
OLDEST_NVIDIA = (8, 0)
"""Triton's own floor (its README, "Compatibility")."""


class _Amd(msgspec.Struct, frozen=True):
    fp8: str | None
    shared_kib: int
    warp: int


_AMD: Mapping[str, _Amd] = {
    "gfx90a": _Amd(None, 64, 64),  # MI200
    "gfx942": _Amd("float8_e4m3fnuz", 64, 64),  # MI300: another zero and another bias than OCP's e4m3
    "gfx950": _Amd("float8_e4m3fn", 160, 64),  # MI350
    "gfx1100": _Amd(None, 64, 32),  # RDNA 3
    "gfx1101": _Amd(None, 64, 32),
    "gfx1200": _Amd("float8_e4m3fn", 64, 32),  # RDNA 4
    "gfx1201": _Amd("float8_e4m3fn", 64, 32),
}


def nvidia(major: int, minor: int) -> Arch:
    """The facts of a compute capability; UnknownArchError below the floor."""
    for facts in _NVIDIA:
        if (major, minor) >= facts.first:
            return Arch(
                name=f"sm_{major}{minor}",
                vendor="nvidia",
                dtypes=facts.dtypes,
                fp8=facts.fp8,
                shared_bytes=facts.shared_kib * _KIB,
                warp=32,
            )
    floor = ".".join(map(str, OLDEST_NVIDIA))
    raise UnknownArchError(f"compute capability {major}.{minor} is below {floor}, which Triton's kernels need")


def amd(name: str) -> Arch:
    """The facts of a `gfx` name, behind which features may stand (`gfx942:sramecc+:xnack-`); UnknownArchError."""
    plain = name.partition(":")[0]
    facts = _AMD.get(plain)
    if facts is None:
        raise UnknownArchError(f"{plain or 'a nameless GPU'} is none of {', '.join(_AMD)}")
    return Arch(
        name=plain,
        vendor="amd",
        dtypes=_WITH_BFLOAT16,
        fp8=facts.fp8,
        shared_bytes=facts.shared_kib * _KIB,
        warp=facts.warp,
    )


def gfx_name(version: int) -> str:
    """The name of a `gfx_target_version` as the Linux driver writes it: 90402 is gfx942, 90010 gfx90a, 110000 gfx1100.

    The decimal digits are major * 10000 + minor * 100 + stepping; the name writes the stepping in hexadecimal.
    """
    major, rest = divmod(version, 10_000)
    minor, stepping = divmod(rest, 100)
    return f"gfx{major}{minor}{stepping:x}"
