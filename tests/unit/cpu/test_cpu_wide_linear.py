"""16-bit weights held as float32: one rounding, rows as they were, and a refusal where memory is short."""

from __future__ import annotations

import pytest
import torch

from jackfield_cpu.linear import onednn_refusals
from jackfield_cpu.processor import Processor, this_processor
from jackfield_cpu.wide_linear import WideLinear, shortage
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype

NARROW = Encoding("float", 16)


@pytest.fixture
def processor() -> Processor:
    """This machine, if it is one that the op is for."""
    here = this_processor()
    if here.multiplies_bfloat16 or "float32" in onednn_refusals(here):
        pytest.skip("this processor multiplies bfloat16 itself, or this torch has no oneDNN")
    return here


def spec(dtype: str = "bfloat16", gathers: bool = False) -> LinearSpec:
    return LinearSpec("layer", 96, (130,), dtype, gathers=gathers)


@pytest.mark.parametrize("rows", [0, 2, 5, 64, 1100])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("bias", [False, True])
def test_sums_are_rounded_once(processor: Processor, dtype: str, rows: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(rows)
    kind = torch_dtype(dtype)
    x = torch.randn(rows, 96, generator=generator).to(kind)
    weight = torch.randn(130, 96, generator=generator).to(kind)
    added = torch.randn(130, generator=generator).to(kind) if bias else None
    op = WideLinear(processor, None)
    got = op.apply(x, op.pack(Encoded(NARROW, weight.clone(), added)))
    exact = x.double() @ weight.double().t() + (0 if added is None else added.double())
    assert got.dtype == kind
    assert got.shape == (rows, 130)
    torch.testing.assert_close(got.double(), exact, rtol=torch.finfo(kind).eps, atol=1e-4)


def test_a_tied_head_keeps_its_rows(processor: Processor) -> None:
    weight, ids = torch.randn(130, 96).bfloat16(), torch.tensor([3, 129, 3])
    op = WideLinear(processor, None)
    assert torch.equal(op.rows(op.pack(Encoded(NARROW, weight.clone())), ids), weight[ids])


def test_refusals_say_why(processor: Processor) -> None:
    op = WideLinear(processor, None)
    assert op.rejects(NARROW, spec()) is None
    assert op.rejects(NARROW, spec(gathers=True)) is None
    assert "not 32-bit float" in str(op.rejects(Encoding("float", 32), spec("float32")))
    short = WideLinear(processor, "too little")
    assert short.rejects(NARROW, spec()) == "too little"


def test_memory_decides() -> None:
    assert shortage(1 << 30, 24 << 30) is None
    assert "more than 40%" in str(shortage(4 << 30, 24 << 30))
    assert "not known" in str(shortage(0, 24 << 30))
