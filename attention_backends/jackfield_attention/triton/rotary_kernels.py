"""Rotary embedding (Su et al., 2021) of some heads of one token, wherever they are stored afterwards."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def turned(
    heads, is_real, angles, DIM: tl.constexpr, TILE: tl.constexpr, ROTARY: tl.constexpr, INTERLEAVED: tl.constexpr
):
    """float32 `[HEADS, TILE]` of the heads at pointers `[HEADS]`, their first `ROTARY` numbers turned.

    `angles` points to `ROTARY / 2` cosines and as many sines. A number's partner is its neighbour if `INTERLEAVED`,
    otherwise the one `ROTARY / 2` away.
    """
    element = tl.arange(0, TILE)
    mask = is_real[:, None] & (element < DIM)[None, :]
    numbers = tl.load(heads[:, None] + element[None, :], mask=mask, other=0.0).to(tl.float32)
    if ROTARY > 0:
        HALF: tl.constexpr = ROTARY // 2
        is_turned = element < ROTARY
        if INTERLEAVED:
            is_first = element % 2 == 0
            pair = element // 2
            partner = tl.where(is_first, element + 1, element - 1)
        else:
            is_first = element < HALF
            pair = tl.where(is_first, element, element - HALF)
            partner = tl.where(is_first, element + HALF, element - HALF)
        cosine = tl.load(angles + pair, mask=is_turned, other=1.0).to(tl.float32)
        sine = tl.load(angles + HALF + pair, mask=is_turned, other=0.0).to(tl.float32)
        partners = tl.load(heads[:, None] + partner[None, :], mask=mask & is_turned[None, :], other=0.0)
        sine = tl.where(is_first, -sine, sine)
        numbers = numbers * cosine[None, :] + partners.to(tl.float32) * sine[None, :]
    return numbers
