"""8-bit floats taken apart and put together by hand, against torch: every code, and numbers between them."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from jackfield_attention.triton.float8_kernels import narrowed, widened
from jackfield_attention.triton.shape import FLOAT8

DTYPES = pytest.mark.parametrize("dtype", FLOAT8)


@triton.jit
def widen_all(codes, out, FP8: tl.constexpr):
    at = tl.arange(0, 256)
    tl.store(out + at, widened(tl.load(codes + at), FP8))


@triton.jit
def narrow_all(numbers, out, COUNT: tl.constexpr, FP8: tl.constexpr):
    at = tl.arange(0, COUNT)
    tl.store(out + at, narrowed(tl.load(numbers + at), FP8))


@DTYPES
def test_every_code_is_read_as_torch_reads_it(dtype):
    codes, out = torch.arange(256, dtype=torch.uint8), torch.full((256,), float("nan"))
    widen_all[(1,)](codes, out, FP8=FLOAT8[dtype])
    wanted = codes.view(getattr(torch, dtype)).float()
    numbers = ~wanted.isnan()
    assert torch.equal(out[numbers], wanted[numbers])
    assert int((~numbers).sum()) == (2 if dtype == "float8_e4m3fn" else 1)


@DTYPES
def test_numbers_are_rounded_as_torch_rounds_them(dtype):
    generator = torch.Generator().manual_seed(1)
    spread = torch.exp2(torch.randint(-12, 8, (2000,), generator=generator).float())
    numbers = torch.randn(2000, generator=generator) * spread
    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype)).float()
    codes = codes[codes.isfinite()]
    halfway = (codes.sort().values[1:] + codes.sort().values[:-1]) / 2
    numbers = torch.cat((numbers, codes, halfway, torch.tensor([0.0, -0.0, 1e-9, -1e-9])))
    most = float(torch.finfo(getattr(torch, dtype)).max)
    numbers = torch.cat((numbers.clamp(-most, most), torch.zeros(4096 - len(numbers))))
    out = torch.zeros(4096, dtype=torch.uint8)
    narrow_all[(1,)](numbers, out, COUNT=4096, FP8=FLOAT8[dtype])
    wanted = numbers.to(getattr(torch, dtype))
    assert torch.equal(out.view(getattr(torch, dtype)).float(), wanted.float())


@DTYPES
def test_what_is_too_large_is_the_largest_and_nan_stays_nan(dtype):
    most = float(torch.finfo(getattr(torch, dtype)).max)
    numbers = torch.tensor([1e6, -1e6, float("inf"), float("nan")])
    out = torch.zeros(4, dtype=torch.uint8)
    narrow_all[(1,)](numbers, out, COUNT=4, FP8=FLOAT8[dtype])
    got = out.view(getattr(torch, dtype)).float()
    assert got[:3].tolist() == [most, -most, most]
    assert got[3].isnan()
