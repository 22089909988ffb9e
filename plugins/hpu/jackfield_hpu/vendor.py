"""The vendor's modules and operations, looked up when they are wanted: none of them is installed without a Gaudi.

Sources: the bridge between PyTorch and Gaudi (github.com/HabanaAI/gaudi-pytorch-bridge, `python_packages`), and "Intel
Gaudi PyTorch Python API" of the Intel Gaudi documentation (docs.habana.ai, PyTorch/Python_Packages.html).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

PACKAGE = "habana_frameworks.torch"


def module(name: str) -> Any:
    """`habana_frameworks.torch.<name>`; ImportError where it is not installed."""
    return importlib.import_module(f"{PACKAGE}.{name}" if name else PACKAGE)


def missing_module(name: str) -> str | None:
    """Why `module(name)` is not there, or None."""
    try:
        module(name)
    except ImportError as error:
        return f"{PACKAGE}.{name} cannot be imported: {str(error).strip().splitlines()[0]}"
    return None


def missing_op(name: str) -> str | None:
    """Why `torch.ops.hpu.<name>` is not there, or None."""
    try:
        getattr(torch.ops.hpu, name)
    except AttributeError:
        return f"torch.ops.hpu.{name} is not registered by the installed software"
    return None


def op(name: str) -> Callable[..., Any]:
    """`torch.ops.hpu.<name>`; AttributeError where there is none."""
    found: Callable[..., Any] = getattr(torch.ops.hpu, name)
    return found
