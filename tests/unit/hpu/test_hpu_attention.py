"""Attention of the plugin by the kit's checks, through the vendor's kernels and without them."""

from __future__ import annotations

import pytest
import torch

from jackfield_hpu.emulated import HpuStrict
from jackfield_hpu.flat_attention import FlatAttention
from jackfield_hpu.fused_attention import FusedAttention
from jackfield_platforms.attention import AttentionNeed, LayerKV
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.kv import Latent, Paged
from jackfield_platforms.ops import OpSpec, resolve
from jackfield_platforms.testing.conformance import attention_checks, plan_checks
from jackfield_platforms.testing.conformance.attention_cases import attention
from jackfield_platforms.testing.conformance.scene import Scene
from jackfield_platforms.testing.conformance.subject import Subject

CHECKS = [
    attention_checks.check_prefill,
    attention_checks.check_decode,
    attention_checks.check_mixed,
    attention_checks.check_padding_reaches_nobody,
    plan_checks.check_rows_padded_to_one_length,
]
NEED = AttentionNeed(Paged(2, 64, 64, "bfloat16"), 4, 0.1, query_dtype="bfloat16")


class OneDtype(HpuStrict):
    """So that a check is a second's work."""

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",), static_shapes=True)


def cases(backend, *variants):
    found = dict(attention(Subject("hpu-strict", OneDtype(), (backend,))))
    return {name: case for name, case in found.items() if not variants or name.split("-")[-2] in variants}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_hold_in_torch(check):
    for case in cases(FlatAttention, "plain", "everything", "latent", "scaled").values():
        check(case, 0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_hold_through_the_vendor_s_kernels(check, bridge):
    served = cases(FusedAttention)
    assert {name.split("-")[-2] for name in served} >= {"plain", "mqa", "gqa", "window_8"}
    for name, case in served.items():
        if name.endswith("-8"):
            check(case, 0)
    assert bridge.sdpa_calls


def test_prompts_without_a_context_need_no_mask(bridge):
    (case,) = cases(FusedAttention, "gqa").values()
    scene = Scene(case, [40, 60, 24], 0)
    scene.fill([40, 3, 2])  # then the others go on, behind less than a block
    scene.step([(1, 5), (2, 6)])
    assert {call["is_causal"] for call in bridge.sdpa_calls} == {True}
    assert all(call["mask"] is None and call["lengths"] is not None for call in bridge.sdpa_calls)
    bridge.sdpa_calls.clear()
    scene.step([(1, 52)])
    assert {call["is_causal"] for call in bridge.sdpa_calls} == {True}  # 60 of 64 tokens
    scene.step([(2, 4)])
    assert bridge.sdpa_calls[-1]["mask"] is not None


def test_what_the_kernels_do_not_document_is_refused(bridge):
    def refused(**changes):
        return FusedAttention.objection(AttentionNeed(**{**FIELDS, **changes}))

    FIELDS = {"kv": NEED.kv, "query_heads": 4, "scale": 0.1, "query_dtype": "bfloat16"}  # noqa: N806
    assert refused() is None
    assert refused(soft_cap=30.0) == "FusedSDPA knows no soft cap"
    assert refused(sinks=True) == "block_softmax knows no sinks"
    assert refused(kv=Paged(2, 64, 32, "bfloat16")) == "FusedSDPA documents heads of one dim; got 64 and 32"
    assert refused(kv=Latent(64, 16, "bfloat16"), query_heads=4) == (
        "FusedSDPA documents heads of one dim; got 80 and 64"
    )
    assert "not in float16" in (refused(query_dtype="float16") or "")


def test_without_the_vendor_s_software_each_missing_part_is_named():
    reason = FusedAttention.objection(NEED)
    assert reason is not None
    assert reason.startswith("habana_frameworks.torch.hpex.kernels cannot be imported")
    assert FlatAttention.objection(NEED) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kv": Paged(2, 64, 64, "float64")}, "cache dtype float64 is none of"),
        ({"query_dtype": "float64"}, "query dtype float64 is none of"),
        ({"query_heads": 3}, "3 query heads are no multiple of 2 kv heads"),
        ({"alibi": True}, "ALiBi slopes are unknown to it"),
    ],
)
def test_what_nobody_serves_is_refused_with_a_reason(change, reason):
    fields = {"kv": NEED.kv, "query_heads": 4, "scale": 0.1, "query_dtype": "bfloat16", **change}
    assert reason in (FlatAttention.objection(AttentionNeed(**fields)) or "")


@pytest.mark.parametrize(("name", "most"), [("GAUDI2", 240.0), ("GAUDI3", 448.0)])
def test_8_bit_caches_hold_the_device_s_largest_number_for_all_beyond_it(bridge, name, most):
    bridge.name = name
    need = AttentionNeed(Paged(1, 8, 8, "float8_e4m3fn"), 1, 1.0)
    ops = resolve(HpuStrict().ops(), OpSpec("float32"))
    backend = FlatAttention(need, 8, device=torch.device("cpu"), ops=ops)
    bucket = Bucket("decode", 1, 1, 1, max_blocks=1)
    plan, cache = backend.blank(bucket), backend.allocate(2)
    far = torch.full((1, 1, 8), 1000.0)
    backend.run(far, far, -far, LayerKV(cache), plan)
    assert cache.k[0].float().unique().tolist() == [most]
    assert cache.v[0].float().unique().tolist() == [-most]
