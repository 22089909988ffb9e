"""8-bit floats, which come as their bits: by shifts, which every GPU can, or by a GPU's own instructions."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def widened(x, FP8: tl.constexpr):
    """Cached numbers as they are, or 8-bit floats, which come as their bits, as float32.

    `FP8` 0: none; 1: e4m3fn; 2: e4m3fnuz; 3: e4m3fn, by the GPU's own instructions. Bits become those of a float16 of
    more range, so that a factor of two to the 8th (7th) is left; this holds for subnormal numbers too.
    """
    if FP8 == 0:
        wide = x
    elif FP8 == 3:
        wide = x.to(tl.float8e4nv, bitcast=True).to(tl.float32)
    else:
        bits = x.to(tl.int32)
        half = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.int16).to(tl.float16, bitcast=True)
        factor: tl.constexpr = 128.0 if FP8 == 2 else 256.0
        wide = half.to(tl.float32) * factor
    return wide


@triton.jit
def narrowed(x, FP8: tl.constexpr):
    """float32 as the bits of the nearest 8-bit float, ties to even; beyond the largest, the largest.

    Three bits of the fraction are kept of what is normal, and the exponent's offset changes. Below that, adding a power
    of two whose last bit is the least 8-bit float rounds to multiples of it, and leaves how many.
    """
    most: tl.constexpr = 240.0 if FP8 == 2 else 448.0
    least: tl.constexpr = 0.0078125 if FP8 == 2 else 0.015625  # that is normal
    offset: tl.constexpr = 119 * 8 if FP8 == 2 else 120 * 8
    power: tl.constexpr = 8192.0 if FP8 == 2 else 16384.0
    power_bits: tl.constexpr = 140 << 23 if FP8 == 2 else 141 << 23
    nan: tl.constexpr = 0x80 if FP8 == 2 else 0x7F
    size = tl.minimum(tl.abs(x), most)
    bits = size.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - offset
    small = (size + power).to(tl.int32, bitcast=True) - power_bits
    code = tl.where(size < least, small, normal)
    sign = (x.to(tl.int32, bitcast=True) >> 24) & 0x80
    if FP8 == 2:
        sign = tl.where(code == 0, 0, sign)  # its only zero; the bits of -0 are its NaN
    return tl.where(x != x, nan, code | sign).to(tl.uint8)
