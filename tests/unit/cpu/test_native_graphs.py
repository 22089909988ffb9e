"""Recordings of the kernels: what is inside, what is refused by name, and memory that they share."""

from __future__ import annotations

import subprocess
import sys

import native_levels
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield_cpu.native_graphs import NativeRecorder
from jackfield_cpu.native_linear import NativeLinear
from jackfield_cpu.native_ops import ops
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.graph import ProgramKey
from jackfield_platforms.linear import Encoded, Encoding

MOST = 29  # tokens
KEY = ProgramKey("test", Bucket("mixed", MOST, MOST))
KERNELS = native_levels.kernels_of(native_levels.levels()[0], 2)
LINEAR, (NORM,), (ADD,), (GATE,) = (
    NativeLinear(KERNELS),
    *(getattr(ops(KERNELS), name) for name in ("rms_norm", "reduce_add_rms_norm", "silu_mul")),
)


def weight(out_size: int, in_size: int, dtype: torch.dtype, generator: torch.Generator):
    numbers = torch.randn(out_size, in_size, generator=generator).to(dtype) / in_size**0.5
    return LINEAR.pack(Encoded(Encoding("float", numbers.itemsize * 8), numbers))


@torch.inference_mode()
@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 6).map(lambda n: 16 * n),
    depth=st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    sizes=st.lists(st.integers(1, MOST), min_size=1, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_a_run_is_the_program_over_the_first_tokens(width, depth, dtype, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = [weight(2 * width, width, dtype, generator) for _ in range(depth)]
    scale = torch.randn(width, generator=generator).to(dtype)

    def program(x: torch.Tensor, residual: torch.Tensor) -> dict[str, torch.Tensor]:
        for packed in weights:
            x, residual = ADD.fn(x, residual, scale, 1e-6, SingleRank())
            heads = NORM.fn(x.view(len(x), -1, 16), scale[:16], 1e-6)
            x = GATE.fn(LINEAR.apply(heads.flatten(1), packed))
        return {"x": x, "residual": residual}

    recorder = NativeRecorder(KERNELS)
    buffers = tuple(torch.full((MOST, width), float("nan"), dtype=dtype) for _ in range(2))
    assert isinstance(recorder.capture(KEY, program, buffers, MOST), int)
    for size in sizes:
        fresh = [torch.randn(size, width, generator=generator).to(dtype) for _ in buffers]
        for buffer, new in zip(buffers, fresh, strict=True):
            buffer.fill_(float("nan"))[:size] = new
        for blocks in recorder._memory._free.values():
            for block in blocks:
                block[:] = 0xFF  # NaN
        found = recorder.run(KEY, size)
        for name, wanted in program(*fresh).items():
            assert torch.equal(found[name][:size], wanted)


def test_layers_of_one_recording_and_other_recordings_share_memory():
    recorder, scale, buffers = NativeRecorder(KERNELS), torch.ones(64), (torch.zeros(MOST, 64),)

    def program(x: torch.Tensor, depth: int) -> torch.Tensor:
        for _ in range(depth):
            x = NORM.fn(x, scale, 1e-6)
        return x

    rows = MOST * 64 * 4
    assert recorder.capture(KEY, lambda x: program(x, 50), buffers, MOST) == 2 * rows, "one is read, one is written"
    other = ProgramKey("other", KEY.bucket)
    assert recorder.capture(other, lambda x: program(x, 9), buffers, MOST) == rows, "but for outputs, which are kept"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (lambda x: NORM.fn(x, torch.ones(64), 1e-6), "aten.ones.default computes outside of the kernels"),
        (lambda x: NORM.fn(x, x[0], 1e-6) + 1, "aten.add.Tensor computes outside of the kernels"),
        (lambda x: NORM.fn(x.t().contiguous(), x[0, :MOST], 1e-6), "aten."),
        (lambda x: x.copy_(NORM.fn(x, x[0], 1e-6)), "aten.copy_.default computes outside of the kernels"),
        (lambda x: NORM.fn(x, x[0], float(x[0, 0])), "aten.item.default computes outside of the kernels"),
        (lambda x: NORM.fn(x[1:], x[0], 1e-6), f"{MOST - 1} rows, no multiple of the step's {MOST} tokens"),
        (lambda x: LINEAR.rows(weight(7, 8, x.dtype, torch.Generator()), TOKENS), "aten."),
    ],
)
@torch.inference_mode()
def test_what_cannot_be_made_again_is_refused_by_name(program, reason):
    recorder = NativeRecorder(KERNELS)
    refusal = recorder.capture(KEY, program, (torch.zeros(MOST, 64),), MOST)
    assert isinstance(refusal, str)
    assert reason in refusal
    assert NORM.fn(torch.ones(1, 64), torch.ones(64), 0.0).eq(1).all(), "kernels run as before"


TOKENS = torch.zeros(MOST, dtype=torch.int64)


def test_embeddings_are_refused_since_python_checks_their_ids():
    table = weight(7, 8, torch.float32, torch.Generator())
    refusal = NativeRecorder(KERNELS).capture(KEY, lambda ids: LINEAR.rows(table, ids), (TOKENS,), MOST)
    assert refusal == "embeddings are looked up: their ids are checked by Python"


def test_a_program_that_fails_leaves_the_kernels_as_they_were():
    def fails(x: torch.Tensor) -> None:
        NORM.fn(x, x[0], 1e-6)
        raise RuntimeError("its own")

    with pytest.raises(RuntimeError, match="its own"):
        NativeRecorder(KERNELS).capture(KEY, fails, (torch.zeros(MOST, 64),), MOST)
    assert NORM.fn(torch.ones(1, 64), torch.ones(64), 0.0).eq(1).all()


@pytest.mark.parametrize("num_tokens", [-1, MOST + 1])
def test_sizes_that_were_not_captured_are_refused(num_tokens):
    recorder = NativeRecorder(KERNELS)
    recorder.capture(KEY, lambda x: NORM.fn(x, x[0], 1e-6), (torch.zeros(MOST, 64),), MOST)
    with pytest.raises(ValueError, match=f"num_tokens must be 0 to {MOST}, which were captured; got {num_tokens}"):
        recorder.run(KEY, num_tokens)


def test_neither_the_platform_nor_recording_imports_a_compiler():
    """torch's takes seconds to import; a dispatch mode of torch's own default brings it in."""
    code = """
import sys, torch
from jackfield_cpu.native_graphs import _Memory, _Watch
from jackfield_cpu.platform import CpuPlatform
CpuPlatform().attention_backends(), CpuPlatform().graph_runner()
with _Watch(_Memory()):
    torch.empty(4)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@torch.inference_mode()
@settings(max_examples=20, deadline=None)
@given(
    heads=st.integers(1, 5),
    others=st.integers(1, 3),
    dim=st.integers(1, 70),
    tokens=st.integers(1, MOST),
    seed=st.integers(0, 2**31),
)
def test_heads_side_by_side_in_wider_rows_are_normed_in_a_recording(heads, others, dim, tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.randn(dim, generator=generator)
    buffer = torch.randn(MOST, (heads + others) * dim, generator=generator)

    def program(rows: torch.Tensor) -> torch.Tensor:
        return NORM.fn(rows[:, : heads * dim].unflatten(-1, (heads, dim)), scale, 1e-6)

    recorder = NativeRecorder(KERNELS)
    assert isinstance(recorder.capture(KEY, program, (buffer,), MOST), int)
    x = buffer[:tokens, : heads * dim].unflatten(-1, (heads, dim)).double()
    wanted = x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * scale
    assert (recorder.run(KEY, tokens)[:tokens] - wanted).abs().max() <= 1e-5 * wanted.abs().max()
