"""Attention by vendors' libraries, by the kit's checks: what each is called with, and what all of them share."""

from __future__ import annotations

import sys

import pytest
from fake_libraries import LIBRARIES

from jackfield_cuda.flash_attention import FlashAttention
from jackfield_cuda.flashinfer_attention import FlashInferAttention
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.kv import Latent, Paged
from jackfield_platforms.testing.conformance import attention_checks, plan_checks, transfer_checks
from jackfield_platforms.testing.conformance.attention_cases import attention
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform
from jackfield_rocm.aiter_attention import AiterAttention

CHECKS = [
    attention_checks.check_prefill,
    attention_checks.check_decode,
    attention_checks.check_mixed,
    attention_checks.check_padding_reaches_nobody,
    attention_checks.check_a_step_writes_its_own_tokens_alone,
    attention_checks.check_rope_in_halves,
    transfer_checks.check_exported_tokens_are_what_was_written,
]


class Halves(StrictPlatform):
    """A host of float16 that takes any shape."""

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float16",), kv_dtypes=("float16",))

    def buckets(self, limits: Limits) -> BucketPlan:
        return BucketPlan()


BACKENDS = (FlashAttention, FlashInferAttention, AiterAttention)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def subject(request, monkeypatch):
    monkeypatch.setitem(sys.modules, request.param.module, LIBRARIES[request.param.module])
    return Subject("strict", Halves(), (request.param,))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_hold(check, subject):
    cases = list(attention(subject))
    kinds = {word for name, _ in cases for word in name.split("-")}
    assert kinds >= {"plain", "mqa", "window_8"}
    assert ("soft_cap" in kinds) == (subject.backends[0] is not AiterAttention)
    for _, case in cases:
        check(case, 0)


def test_rows_that_are_padded_inside_are_gathered(subject):
    cases = list(plan_checks.row_padded(subject))
    assert cases
    for _, case in cases:
        plan_checks.check_rows_padded_to_one_length(case, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_library_that_is_not_installed_is_told(backend, monkeypatch):
    monkeypatch.setattr(backend, "module", "no_such_library")
    need = AttentionNeed(Paged(2, 64, 64, "bfloat16"), 4, 0.1, query_dtype="bfloat16")
    assert backend.objection(need) == "no_such_library cannot be imported: No module named 'no_such_library'"


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (AttentionNeed(Paged(2, 64, 64, "float32"), 4, 0.1), "bfloat16 and float16"),
        (AttentionNeed(Paged(2, 64, 64, "float16"), 4, 0.1, query_dtype="bfloat16"), "alike"),
        (AttentionNeed(Paged(2, 512, 512, "float16"), 4, 0.1, query_dtype="float16"), "up to 256"),
        (AttentionNeed(Paged(2, 64, 32, "float16"), 4, 0.1, query_dtype="float16"), "of one dim"),
        (AttentionNeed(Paged(2, 64, 64, "float16"), 4, 0.1, query_dtype="float16", sinks=True), "sinks"),
        (AttentionNeed(Paged(3, 64, 64, "float16"), 4, 0.1, query_dtype="float16"), "no multiple"),
        (AttentionNeed(Latent(64, 16, "float16"), 4, 0.1, query_dtype="float16"), "Latent"),
    ],
)
def test_what_libraries_do_not_serve_is_refused(need, why):
    assert why in (FlashAttention.objection(need) or "")
