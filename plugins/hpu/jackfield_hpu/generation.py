"""What the generations of Gaudi make of 8-bit floats.

e4m3 reaches to 240 on Gaudi 2 and to 448 on Gaudi 3. Scales that the hardware applies by an exponent's bias cost
nothing: four on Gaudi 2, 2^-8 to 2^4, every power of two from 2^-55 to 2^7 on Gaudi 3 (Intel Gaudi documentation, "Run
Inference Using FP8", `device_for_scales`; neural-compressor, `fp8_quant/_core/fp_utils.py`).
"""

from __future__ import annotations

import msgspec

from jackfield_hpu.vendor import missing_module, module


class Generation(msgspec.Struct, frozen=True):
    """One generation."""

    name: str
    most: float  # the largest e4m3
    lowest: int  # exponents of the scales that are free, `step` apart
    highest: int
    step: int


GAUDI2 = Generation("GAUDI2", 240.0, -8, 4, 4)
GAUDI3 = Generation("GAUDI3", 448.0, -55, 7, 1)
GENERATIONS = {generation.name: generation for generation in (GAUDI2, GAUDI3)}


def generation() -> Generation:
    """This process's device; without the vendor's software Gaudi 3, whose numbers are those of torch's own e4m3."""
    if missing_module("hpu") is not None:
        return GAUDI3
    name: str = module("hpu").get_device_name()
    known = next((one for key, one in GENERATIONS.items() if name.upper().startswith(key)), None)
    if known is None:
        raise ValueError(f"the device is {name!r}; the range of its 8-bit floats is known of {', '.join(GENERATIONS)}")
    return known
