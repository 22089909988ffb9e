"""Plain floating-point weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod

_BITS = {"float32": 32, "bfloat16": 16, "float16": 16}


@dataclass(frozen=True)
class Unquantized(QuantMethod):
    """Weights in the activations' own dtype: float32, bfloat16 or float16."""

    name: ClassVar[str] = "unquantized"
    on_line: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        if layer.dtype not in _BITS:
            return f"dtype {layer.dtype} is not one of {', '.join(_BITS)}"
        if layer.dtype not in caps.dtypes:
            return f"the platform computes in {', '.join(caps.dtypes)}, not in {layer.dtype}"
        return None

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        weight = ParamSpec((layer.out_size, layer.in_size), layer.dtype)
        return (
            {"weight": weight, "bias": ParamSpec((layer.out_size,), layer.dtype)} if layer.bias else {"weight": weight}
        )

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        return Encoded(Encoding("float", _BITS[layer.dtype]), params.pop("weight"), params.pop("bias", None))
