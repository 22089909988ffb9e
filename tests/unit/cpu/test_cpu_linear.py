"""Products of the CPU's linear ops against float64, and what each refuses."""

from __future__ import annotations

import pytest
import torch

from jackfield_cpu.linear import OneDnnLinear, PanelLinear, onednn_refusals
from jackfield_cpu.platform import CpuPlatform
from jackfield_cpu.processor import Processor
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, TorchLinear, torch_dtype
from jackfield_platforms.refusal import choose

AVX2 = Processor("test", 2, frozenset({"avx2"}))
NATIVE = Processor("test", 2, frozenset({"avx512f", "avx512_bf16"}))
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-20}


def spec(dtype: str, gathers: bool = False) -> LinearSpec:
    return LinearSpec("layer", 96, (100, 30), dtype, gathers=gathers)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 16, 67, 1023, 1024, 1300])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_panels_round_once(dtype: str, rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PANEL_NUMBERS", "_LARGE_PANEL_NUMBERS"):
        monkeypatch.setattr(f"jackfield_cpu.linear.{name}", 96 * 48)  # 130 rows in panels of 48: the last is short
    generator = torch.Generator().manual_seed(rows + 100 * bias)
    kind = torch_dtype(dtype)
    x = torch.randn(rows, 96, generator=generator).to(kind)
    weight = torch.randn(130, 96, generator=generator).to(kind)
    added = torch.randn(130, generator=generator).to(kind) if bias else None
    op = PanelLinear(AVX2)
    got = op.apply(x, op.pack(Encoded(Encoding("float", 16), weight.clone(), added)))
    exact = x.double() @ weight.double().t() + (0 if added is None else added.double())
    assert got.dtype == kind
    assert got.is_contiguous()
    tolerance = ROUNDING[dtype] * exact.abs() + 1e-4  # 1e-4: float32 sums of 96 products
    if rows <= 3:  # torch's own gemv may round its sums more than once
        tolerance = 4 * tolerance + 4 * ROUNDING[dtype]
    assert ((got.double() - exact).abs() <= tolerance).all()


def test_panels_keep_the_weight_as_it_is() -> None:
    weight = torch.randn(130, 96).bfloat16()
    packed = PanelLinear(AVX2).pack(Encoded(Encoding("float", 16), weight))
    assert packed.data.data_ptr() == weight.data_ptr()
    ids = torch.tensor([129, 0, 7])
    assert torch.equal(PanelLinear(AVX2).rows(packed, ids), weight[ids])


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_onednn_multiplies_float32(rows: int, bias: bool) -> None:
    op = OneDnnLinear(onednn_refusals(AVX2))
    if op.rejects(Encoding("float", 32), spec("float32")) is not None:
        pytest.skip("this torch has no oneDNN")
    x, weight, added = torch.randn(rows, 96), torch.randn(130, 96), torch.randn(130) if bias else None
    got = op.apply(x, op.pack(Encoded(Encoding("float", 32), weight.clone(), added)))
    exact = x.double() @ weight.double().t() + (0 if added is None else added.double())
    assert (got.double() - exact).abs().max() <= 96 * ROUNDING["float32"]


def test_refusals_say_why() -> None:
    onednn, panels = OneDnnLinear(onednn_refusals(AVX2)), PanelLinear(AVX2)
    ints, narrow, wide = Encoding("int", 8), Encoding("float", 16), Encoding("float", 32)
    assert "AVX2 does not multiply bfloat16" in str(onednn.rejects(narrow, spec("bfloat16")))
    assert "bfloat16 and float32 only" in str(onednn.rejects(narrow, spec("float16")))
    assert "tied embedding" in str(onednn.rejects(wide, spec("float32", gathers=True)))
    assert "not 8-bit int" in str(onednn.rejects(ints, spec("float32")))
    assert "not 8-bit int" in str(panels.rejects(ints, spec("bfloat16")))
    scaled = Encoding("float", 8, group=128, group_out=128, scale="float32")
    for op in (onednn, panels):
        assert "not 8-bit float in blocks of 128 x 128" in str(op.rejects(scaled, spec("bfloat16")))
    assert "not 32-bit float" in str(panels.rejects(wide, spec("float32")))
    assert "multiplies bfloat16 itself" in str(PanelLinear(NATIVE).rejects(narrow, spec("bfloat16")))
    assert panels.rejects(narrow, spec("float16", gathers=True)) is None


@pytest.mark.parametrize(
    ("dtype", "gathers", "taken"),
    [
        ("bfloat16", False, "panels"),
        ("float16", True, "panels"),
        ("float32", False, "onednn"),
        ("float32", True, "torch"),
    ],
)
def test_an_avx2_machine_takes(dtype: str, gathers: bool, taken: str) -> None:
    ops = (OneDnnLinear(onednn_refusals(AVX2)), PanelLinear(AVX2), TorchLinear())
    if taken == "onednn" and "float32" in ops[0].refusals:
        pytest.skip("this torch has no oneDNN")
    encoding = Encoding("float", torch_dtype(dtype).itemsize * 8)
    choice = choose("a layer", ops, lambda op: op.rejects(encoding, spec(dtype, gathers)), lambda op: op.name)
    assert choice.taken.name == taken


def test_the_platform_hands_over_its_parts() -> None:
    platform = CpuPlatform()
    assert platform.device() == torch.device("cpu")
    assert [op.name for op in platform.linear_ops()] == ["native", "onednn", "wide", "panels"]
    assert not platform.capabilities().asynchronous
    memory = platform.memory(platform.device())
    assert 0 < memory.free <= memory.total
    assert "core" in platform.describe()
