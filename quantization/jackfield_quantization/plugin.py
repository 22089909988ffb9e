"""The hooks of this distribution: the weight formats that every platform gets."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.linear import QuantMethod
from jackfield_quantization.unquantized import Unquantized


@hookimpl
def quant_methods() -> Mapping[str, type[QuantMethod]]:
    """Weight formats by name."""
    return {Unquantized.name: Unquantized}
