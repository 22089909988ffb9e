"""From the largest number to the scale by which numbers are divided before they become 8-bit floats.

The methods and their names are INC's (Intel Gaudi documentation, "Run Inference Using FP8", `scale_method`). The
largest number becomes a share (`backoff`) of the full range; the scale is then rounded up to a power of two, or to one
that the hardware applies for nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor

from jackfield_hpu.generation import Generation

Rounding = Literal["one", "none", "pow2", "hw"]
_SMALLEST = torch.finfo(torch.bfloat16).tiny  # a row of zeros has a scale too


class ScaleMethod(msgspec.Struct, frozen=True):
    """How weights and activations are scaled. `by_row`: each row of a weight, or each token of the activations."""

    weight: Rounding
    activation: Rounding
    weight_by_row: bool = False
    dynamic: bool = False  # activations are scaled by token, from what they are


METHODS = {
    "unit_scale": ScaleMethod("one", "one"),
    "maxabs_arbitrary": ScaleMethod("none", "none"),
    "maxabs_pow2": ScaleMethod("pow2", "pow2"),
    "maxabs_hw": ScaleMethod("hw", "hw"),
    "act_maxabs_hw_weights_pcs_maxabs_pow2": ScaleMethod("pow2", "hw", weight_by_row=True),
    "act_maxabs_pow2_weights_pcs_maxabs_pow2": ScaleMethod("pow2", "pow2", weight_by_row=True),
    "act_maxabs_pcs_pow2_weight_maxabs_pts_pow2_hw": ScaleMethod("hw", "pow2", dynamic=True),
}


def scale_method(name: str, *, dynamic: bool) -> ScaleMethod:
    """The method of that name; ValueError for one that is not known, or that does not go with `dynamic`."""
    method = METHODS.get(name)
    if method is None:
        raise ValueError(f"scale_method {name!r} is none of {', '.join(METHODS)}")
    if method.dynamic != dynamic:
        raise ValueError(
            f"scale_method {name!r} is for dynamic_quantization {str(method.dynamic).lower()}, and it is "
            f"{str(dynamic).lower()}"
        )
    return method


def scale_of(largest: Tensor, rounding: Rounding, backoff: float, device: Generation) -> Tensor:
    """Scales for numbers of at most `largest`, elementwise; float32."""
    if rounding == "one":
        return torch.ones_like(largest, dtype=torch.float32)
    exact = (largest.float() / (device.most * backoff)).clamp(min=_SMALLEST)
    if rounding == "none":
        return exact
    exponent = torch.ceil(torch.log2(exact))
    if rounding == "hw":
        steps = torch.ceil(exponent / device.step) * device.step
        exponent = steps.clamp(device.lowest, device.highest)
    return torch.exp2(exponent)
