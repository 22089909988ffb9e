"""The SDK's conformance kit over the Triton backend, and faults in it that the kit must find."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
import torch
from triton_subject import subject

from jackfield_attention.triton.backend import TritonAttention
from jackfield_attention.triton.shape import Shape
from jackfield_platforms.testing.conformance.run import KitOptions, check

ATTENTION = "attention_checks or transfer_checks or compile_checks or plan_checks"
replace = msgspec.structs.replace


def test_the_kit_finds_nothing_in_plain_decode():
    report = check(subject(), KitOptions(seeds=1, match="(check_decode or compile_checks) and plain"))
    assert report.failed_checks() == set()
    assert report.count("passed") > 1


@pytest.mark.long  # minutes each: every program of every launch is interpreted
@pytest.mark.parametrize(
    ("dtypes", "kv_dtypes"),
    [
        (("float32",), ("float32",)),
        (("float16",), ("float16", "float8_e4m3fn")),
        (("bfloat16",), ("bfloat16", "float8_e4m3fnuz")),
    ],
    ids=str,
)
def test_the_kit_finds_nothing(dtypes, kv_dtypes):
    report = check(subject(dtypes, kv_dtypes), KitOptions(seeds=1, match=f"{ATTENTION} or an_accepted_need"))
    assert report.failed_checks() == set()
    assert report.count("passed") > 100


class Misplaced(TritonAttention):
    """A backend whose plan is changed behind its making."""

    def plan(self, layout, bucket, into):
        super().plan(layout, bucket, into)
        self.change(into)


class SeesOneKeyMore(Misplaced):
    def change(self, plan):
        plan.kv_len[plan.num_new > 0] += 1


class SeesOneKeyLess(Misplaced):
    def change(self, plan):
        plan.kv_len[plan.kv_len > 1] -= 1


class ReadsTheNullBlock(Misplaced):
    def change(self, plan):
        plan.table[:: max(int(plan.columns[0]), 1)] = 0


class WritesPaddingIntoBlockOne(Misplaced):
    def change(self, plan):
        plan.slots[plan.slots < self.block_size] += self.block_size


class WritesOneSlotFurther(Misplaced):
    def change(self, plan):
        plan.slots[plan.slots % self.block_size < self.block_size - 1] += 1  # never past the cache's end


class LosesTheLastTile(Misplaced):
    def change(self, plan):
        plan.tile_first[0] = 1 << 30


class TakesRowsInTurn(Misplaced):
    """Every tile is taken to be of the row before its own."""

    def change(self, plan):
        plan.tile_row.copy_((plan.tile_row - 1).clamp(min=0))


class Constant(TritonAttention):
    """A backend whose kernels are made for another need."""

    def __init__(self, need, block_size, **more):
        super().__init__(need, block_size, **more)
        self.shape = Shape.of(self.instead(need), block_size, self.gpu)


class WindowOffByOne(Constant):
    def instead(self, need):
        return replace(need, kv=replace(need.kv, window=need.kv.window + 1)) if hasattr(need.kv, "window") else need


class ForgetsSoftCap(Constant):
    def instead(self, need):
        return replace(need, soft_cap=None)


class TakesUsualScale(Constant):
    def instead(self, need):
        return replace(need, scale=need.kv.k_dim**-0.5)


class DropsSinks(Constant):
    def instead(self, need):
        return replace(need, sinks=False)


class DropsSlopes(Constant):
    def instead(self, need):
        return replace(need, alibi=False)


class DropsScalesOfCaches(TritonAttention):
    """Reads cached numbers as they are, having divided them."""

    def launch(self, step, layer, plan, rope):
        from jackfield_attention.triton.launch import attend, write

        q = write(self.shape, step, layer, plan, rope)
        return attend(Shape.of(replace(self.need, kv_scales=False), self.block_size, self.gpu), q, layer, plan)


class LeavesKeysUnrotated(TritonAttention):
    def launch(self, step, layer, plan, rope):
        out = super().launch(step, layer, plan, rope)
        if rope is None:
            return out
        from jackfield_attention.triton.launch import attend, write

        q = write(self.shape, step, layer, plan, rope)
        write(self.shape, step, layer, plan, None)
        return attend(self.shape, q, layer, plan)


class PairsHalvesAlways(TritonAttention):
    def launch(self, step, layer, plan, rope):
        return super().launch(step, layer, plan, rope and dataclasses.replace(rope, interleaved=False))


class SharesHeadsInTurn(TritonAttention):
    """Query head h reads kv head h % kv_heads."""

    def launch(self, step, layer, plan, rope):
        q, k, v = step
        order = torch.arange(q.shape[1]).view(-1, self.need.kv.kv_heads).T.flatten()
        out = super().launch((q[:, order].contiguous(), k, v), layer, plan, rope)
        return torch.empty_like(out).index_copy_(1, order, out)


DECODE, PREFILL, MIXED = "check_decode", "check_prefill", "check_mixed"
FAULTS: dict[type[Any], tuple[str, set[str]]] = {  # the need that shows it, and the checks that find it
    SeesOneKeyMore: ("plain", {DECODE, PREFILL, MIXED}),
    SeesOneKeyLess: ("plain", {DECODE, PREFILL}),
    ReadsTheNullBlock: ("plain", {DECODE, PREFILL}),
    WritesPaddingIntoBlockOne: ("plain", {"check_padding_reaches_nobody"}),
    WritesOneSlotFurther: ("plain", {DECODE}),
    LosesTheLastTile: ("plain", {DECODE, PREFILL, MIXED}),
    TakesRowsInTurn: ("plain", {DECODE, MIXED}),
    WindowOffByOne: ("window_8", {DECODE, PREFILL}),
    ForgetsSoftCap: ("soft_cap", {DECODE, PREFILL}),
    TakesUsualScale: ("plain", {DECODE, PREFILL}),
    DropsSinks: ("sinks", {DECODE, PREFILL}),
    DropsSlopes: ("alibi", {DECODE, PREFILL}),
    DropsScalesOfCaches: ("scaled", {DECODE, PREFILL}),
    LeavesKeysUnrotated: ("plain", {"check_rope_in_halves", "check_rope_of_a_part_of_the_head"}),
    PairsHalvesAlways: ("plain", {"check_rope_interleaved"}),
    SharesHeadsInTurn: ("gqa", {DECODE, PREFILL}),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_kit_finds_the_fault(fault):
    variant, wanted = FAULTS[fault]
    match = f"({' or '.join(sorted(wanted))}) and {variant}"
    report = check(subject(backend=fault), KitOptions(seeds=1, match=match))
    assert wanted <= report.failed_checks()
