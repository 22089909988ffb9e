"""Norms and rotary embedding through the vendor's operations: the kit's checks over the stand-in, and refusals."""

from __future__ import annotations

import pytest

from jackfield_hpu.emulated import HpuStrict
from jackfield_hpu.fused_ops import FUSED_OPS
from jackfield_platforms.ops import OpSpec, resolve, unread_overrides
from jackfield_platforms.testing.conformance import ops_checks
from jackfield_platforms.testing.conformance.subject import Subject

CHECKS = {
    "rms_norm": (ops_checks.check_rms_norm,),
    "reduce_add_rms_norm": (ops_checks.check_reduce_add_rms_norm, ops_checks.check_partial_sums_are_reduced),
    "rotary": (ops_checks.check_rotary,),
}


@pytest.mark.parametrize("op", CHECKS)
def test_the_kit_s_checks_of_ops_hold(op, bridge):
    cases = dict(ops_checks.cases_of(Subject("hpu-strict", HpuStrict(), ()), op))
    assert {"hpu-bfloat16", "hpu-float32"} <= set(cases)
    for check in CHECKS[op]:
        for name in ("hpu-bfloat16", "hpu-float32"):
            check(cases[name], 0)


def test_the_vendor_s_operations_are_chosen_where_they_are(bridge):
    chosen = resolve(FUSED_OPS, OpSpec("bfloat16")).chosen
    assert {op for op, choice in chosen.items() if choice.taken.name == "hpu"} == set(CHECKS)
    reasons = dict(resolve(FUSED_OPS, OpSpec("float16")).chosen["rotary"].refusals)
    assert reasons["hpu"] == "the vendor's kernel is tested in bfloat16 and float32, not in float16"


def test_where_they_are_not_plain_torch_serves_and_says_why():
    choice = resolve(FUSED_OPS, OpSpec("bfloat16")).chosen["rms_norm"]
    assert choice.taken.name == "torch"
    assert dict(choice.refusals)["hpu"] == "torch.ops.hpu.rms_norm is not registered by the installed software"
    assert {one.op for one in unread_overrides(FUSED_OPS, ("bfloat16",))} == set(CHECKS)
