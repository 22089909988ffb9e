"""The plugin's own kernels: a shared library with a C interface, built with the package (`native/`, `hatch_build.py`).

One library holds the kernels of every instruction set of its architecture. Which one serves is chosen once a process:
by JACKFIELD_CPU_KERNELS (a name; `none` or `torch.compile` for plain torch), otherwise by what the processor announces.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import msgspec
import torch
from torch import Tensor

LIBRARY = Path(__file__).with_name("libjackfield_cpu.so")
SWITCH = "JACKFIELD_CPU_KERNELS"
TORCH_COMPILE, IPEX = "torch.compile", "ipex"
WITHOUT = ("none", TORCH_COMPILE)  # what may be chosen instead of kernels
DTYPES = {torch.float32: 0, torch.bfloat16: 1}  # `Dtype` of native/weight.h


# A 0.6B model in bfloat16 on two cores with AVX512-BF16, one stream: 7.8 of 24 tokens/s; a prompt of 1,024: 220 of 355
COST = "measured on two cores with AVX512-BF16: a third of the tokens a second of one stream, two thirds of a prompt's"


class Weight(Structure):
    """`Weight` of native/weight.h."""

    _fields_ = (
        ("format", c_int64),
        ("out", c_int64),
        ("in_size", c_int64),
        ("panels", c_int64),
        ("depth", c_int64),
        ("panel_bytes", c_int64),
        ("group", c_int64),
        ("data", c_void_p),
        ("scale", c_void_p),
        ("offset", c_void_p),
        ("bias", c_void_p),
    )


class Rows(Structure):
    """`Rows` of native/weight.h: a matrix of activations."""

    _fields_ = (("data", c_void_p), ("stride", c_int64), ("dtype", c_int32))

    @classmethod
    def of(cls, x: Tensor) -> Rows:
        """A view of `[rows, width]`, whose last dimension must be dense."""
        return cls(x.data_ptr(), x.stride(0), DTYPES[x.dtype])


class Layer(Structure):
    """`Layer` of native/layer.h."""

    _fields_ = (
        ("qkv", POINTER(Weight)),
        ("out", POINTER(Weight)),
        ("gate_up", POINTER(Weight)),
        ("down", POINTER(Weight)),
        ("input_norm", c_void_p),
        ("post_norm", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("hidden", c_int64),
        ("inner", c_int64),
        ("query_heads", c_int64),
        ("kv_heads", c_int64),
        ("head_dim", c_int64),
        ("dtype", c_int64),
        ("eps", c_double),
    )


class Experts(Structure):
    """`Experts` of native/experts.h."""

    _fields_ = (
        ("gate_up", POINTER(Weight)),
        ("down", POINTER(Weight)),
        ("count", c_int64),
        ("top", c_int64),
        ("hidden", c_int64),
        ("inner", c_int64),
        ("renormalize", c_int64),
        ("dtype", c_int64),
    )


class Kernels(msgspec.Struct, frozen=True):
    """The library, ready to be called, and the name of the instruction set that it was told to use."""

    name: str
    library: ctypes.CDLL


@cache
def kernels() -> Kernels | str:
    """The kernels of this process, or why there are none. ValueError when JACKFIELD_CPU_KERNELS names none that run."""
    wanted = os.environ.get(SWITCH, "")
    if wanted == IPEX:
        raise ValueError(_ipex_refusal())
    if wanted in WITHOUT:
        return f"{SWITCH}={wanted}"
    return load(LIBRARY, wanted, torch.get_num_threads())


def _ipex_refusal() -> str:
    """Why Intel's extension cannot serve. Its last release, 2.8.0, is built for torch 2.8; we need 2.9 or newer.

    Source: https://pypi.org/project/intel-extension-for-pytorch/
    """
    found = "is installed" if find_spec("intel_extension_for_pytorch") else "is not installed"
    return (
        f"{SWITCH}=ipex: intel_extension_for_pytorch {found}, and none of its releases (the last is 2.8.0) works with "
        f"torch {torch.__version__}. Leave {SWITCH} out for our own kernels, or choose {TORCH_COMPILE!r}"
    )


def missing(reason: str) -> str:
    """What plain torch computes in the place of kernels that are missing for `reason`, and what that costs."""
    return f"no kernels of our own ({reason}): linear and decoder layers, attention and argmax by plain torch; {COST}"


def refusal(found: Kernels | str, dtype: str) -> str | None:
    """Why kernels cannot compute in `dtype`, by its name, or None."""
    if isinstance(found, str):
        return found
    names = [str(known).removeprefix("torch.") for known in DTYPES]
    return None if dtype in names else f"computes in {' or '.join(names)}, not {dtype}"


def load(path: Path, wanted: str, threads: int) -> Kernels | str:
    """The kernels of a library, working on `threads` threads; `wanted` names an instruction set, empty: the widest."""
    if not path.exists():
        return "the package was built without a C++ compiler; install one and reinstall jackfield-cpu"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"{path.name} cannot be loaded: {error}"
    library.jackfield_choose.restype = c_char_p
    name = library.jackfield_choose(wanted.encode() if wanted else None)
    if name is None and wanted:
        others = ", ".join(map(repr, WITHOUT))
        raise ValueError(
            f"{SWITCH} must name kernels that were built and that the system lets run, or be one of {others}; "
            f"got {wanted!r}"
        )
    if name is None:
        return "there are no kernels for this processor's instructions"
    _declare(library)
    library.jackfield_set_threads(threads)
    return Kernels(name.decode(), library)


def _declare(library: ctypes.CDLL) -> None:
    weight, rows, layer = POINTER(Weight), POINTER(Rows), POINTER(Layer)
    for name, arguments in {
        "set_threads": (c_int,),
        "linear": (weight, rows, c_int64, rows, c_int32),
        "pack": (weight, c_void_p, c_void_p),
        "gather": (weight, c_void_p, c_int64, rows),
        "before": (layer, *[c_void_p] * 2, c_int64, *[c_void_p] * 2),
        "after": (layer, *[c_void_p] * 3, c_int64, *[c_void_p] * 2),
        "experts": (POINTER(Experts), rows, rows, c_int64, rows),
        "norm": (rows, rows, c_int64, c_int64, c_void_p, c_double, rows, rows),
        "norm_parts": (rows, c_int64, c_int64, c_int64, c_void_p, c_double, rows),
        "silu_mul": (rows, c_int64, c_int64, rows),
        "argmax": (rows, c_int64, c_int64, c_void_p),
        "attention": (c_void_p, c_void_p, c_void_p),
        "large_pages": (c_void_p, c_int64),
        "record": (c_int64,),
        "replay": (c_void_p, c_int64),
        "forget": (c_void_p,),
    }.items():
        function = getattr(library, f"jackfield_{name}")
        function.argtypes, function.restype = arguments, None
    library.jackfield_gather.restype = c_int64
    library.jackfield_recorded.argtypes, library.jackfield_recorded.restype = (), c_void_p
    refusal = library.jackfield_recording_refusal
    refusal.argtypes, refusal.restype = (c_void_p,), c_char_p
    plan = library.jackfield_attention_plan
    plan.argtypes, plan.restype = (c_void_p, c_void_p, c_void_p, c_int64, c_void_p), c_int64
