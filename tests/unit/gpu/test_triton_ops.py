"""Elementwise kernels under Triton's interpreter, by the kit's checks against float64, and what those leave out."""

from __future__ import annotations

import pytest
import torch
from kernel_subject import ARCHS, DTYPES, SEEDS, subject

from jackfield_gpu.ops.argmax import argmax
from jackfield_gpu.ops.gates import silu_mul
from jackfield_gpu.ops.norms import Norms
from jackfield_gpu.ops.table import op_table
from jackfield_gpu.ops.tiles import row_tile
from jackfield_platforms import reference
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import OpSpec, unread_overrides
from jackfield_platforms.testing.conformance import ops_checks, sampling_ops_checks

CHECKS = {
    "rms_norm": ["check_rms_norm"],
    "reduce_add_rms_norm": ["check_reduce_add_rms_norm", "check_partial_sums_are_reduced"],
    "silu_mul": ["check_silu_mul"],
    "rotary": ["check_rotary"],
}
OF_SAMPLING = {"argmax": "check_argmax", "penalize": "check_penalize", "sampling_threshold": "check_sampling_threshold"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("op", "check"), [(op, check) for op, checks in CHECKS.items() for check in checks])
def test_the_kit_s_checks_hold(op, check, arch, seed):
    holds(ops_checks, op, check, arch, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("op", OF_SAMPLING)
def test_the_kit_s_checks_of_sampling_hold(op, seed):
    holds(sampling_ops_checks, op, OF_SAMPLING[op], "sm_90", seed, dtypes=DTYPES if op == "argmax" else DTYPES[:1])


def holds(checks, op, check, arch, seed, dtypes=DTYPES):
    """Of some ops all logits are float32, whatever the dtype: it is the same case each time."""
    cases = [(name, case) for name, case in getattr(checks, op)(subject(arch)) if name.startswith("triton")]
    assert [name for name, _ in cases] == [f"triton-{dtype}" for dtype in DTYPES]
    for _, case in cases[: len(dtypes)]:
        getattr(checks, check)(case, seed)


def test_heads_within_a_fused_projection_are_normed_where_they_lie():
    qkv, weight = torch.randn(5, 12 * 16), torch.randn(16)
    heads = qkv[:, 32:160].unflatten(-1, (8, 16))
    got = Norms(32).rms_norm(heads, weight, 1e-6)
    assert got.is_contiguous()
    torch.testing.assert_close(got, reference.rms_norm(heads, weight, 1e-6))


@pytest.mark.parametrize("width", [1, 33, 4096, 5000])
def test_rows_of_any_width_are_normed(width):
    x, weight = torch.randn(3, width), torch.randn(width)
    torch.testing.assert_close(Norms(32).rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))


def test_gates_of_more_than_one_block():
    x = torch.randn(2, 3, 2 * 1500)
    torch.testing.assert_close(silu_mul(x), reference.silu_mul(x))


def test_nothing_is_launched_for_no_rows():
    none, weight = torch.zeros(0, 8), torch.zeros(8)
    assert Norms(32).rms_norm(none, weight, 1e-6).shape == (0, 8)
    assert [x.shape for x in Norms(32).reduce_add_rms_norm(none, none, weight, 1e-6, SingleRank())] == [(0, 8)] * 2
    assert silu_mul(none).shape == (0, 4)
    assert argmax(none).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [5, 70_000, 152_064])
def test_the_highest_logit_of_a_vocabulary_is_the_first_of_equals(dtype, width):
    logits = torch.randn(2, width).to(torch_dtype(dtype))
    logits[0, [width - 1, width // 2]] = 50.0
    assert argmax(logits).tolist() == logits.argmax(-1).tolist()


def test_every_implementation_serves_some_dtype():
    for arch in ARCHS.values():
        assert unread_overrides(op_table(arch), arch.dtypes) == ()


def test_a_dtype_that_the_gpu_does_not_compute_in_is_refused():
    assert "float64" not in ARCHS["sm_90"].dtypes
    assert "sm_90 computes in" in (op_table(ARCHS["sm_90"]).silu_mul[0].rejects(OpSpec("float64")) or "")


def test_short_rows_share_a_program_and_long_ones_get_more_warps():
    assert row_tile(128, 32).rows == 16
    assert row_tile(4096, 32).rows == 1
    assert row_tile(16384, 32).num_warps > row_tile(4096, 32).num_warps >= row_tile(4096, 64).num_warps
