"""The hooks of this distribution: the weight formats that every platform gets."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.linear import QuantMethod
from jackfield_quantization.awq import Awq
from jackfield_quantization.compressed_tensors import CompressedTensors
from jackfield_quantization.fp8 import BlockFp8
from jackfield_quantization.gptq import Gptq
from jackfield_quantization.int4 import Int4, WholeInt4
from jackfield_quantization.int8 import GroupedInt8, Int8, WholeInt8
from jackfield_quantization.unquantized import Unquantized

_METHODS: tuple[type[QuantMethod], ...] = (
    *(Unquantized, Int8, WholeInt8, GroupedInt8, Int4, WholeInt4),
    *(Gptq, Awq, BlockFp8, CompressedTensors),
)


@hookimpl
def quant_methods() -> Mapping[str, type[QuantMethod]]:
    """Weight formats by name."""
    return {method.name: method for method in _METHODS}
