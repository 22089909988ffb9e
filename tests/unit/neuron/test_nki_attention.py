"""Prompts through the vendor's kernel, stood in for: the kit's checks, and what each launch is given."""

from __future__ import annotations

import sys

import msgspec
import pytest
import torch
from fake_nki import stand_in

from jackfield_attention.gathered import GatheredAttention
from jackfield_neuron import nki_kernel
from jackfield_neuron.nki_attention import NkiAttention
from jackfield_neuron.strict import NeuronStrict
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent, Paged, Windowed
from jackfield_platforms.testing.conformance import attention_checks, plan_checks, transfer_checks
from jackfield_platforms.testing.conformance.attention_cases import attention
from jackfield_platforms.testing.conformance.subject import Subject

CHECKS = [
    attention_checks.check_prefill,
    attention_checks.check_decode,
    attention_checks.check_chunked_prompt_equals_the_whole,
    attention_checks.check_padding_reaches_nobody,
    attention_checks.check_a_step_writes_its_own_tokens_alone,
    attention_checks.check_rope_in_halves,
    transfer_checks.check_exported_tokens_are_what_was_written,
]
NEED = AttentionNeed(Paged(2, 64, 64, "bfloat16"), 4, 0.1, query_dtype="bfloat16")


class Bfloat16(NeuronStrict):
    """The strict device in the dtype of the kernel alone."""

    def capabilities(self):
        return msgspec.structs.replace(super().capabilities(), dtypes=("bfloat16",), kv_dtypes=("bfloat16",))


@pytest.fixture
def kernel(monkeypatch):
    module = stand_in()
    monkeypatch.setenv(nki_kernel.SWITCH, "1")
    monkeypatch.delenv("NEURON_LOGICAL_NC_CONFIG", raising=False)
    monkeypatch.setitem(sys.modules, nki_kernel.MODULE, module)
    monkeypatch.setattr(NkiAttention, "fewest_queries", 2)  # the kit's prompts are short
    return module.attention_cte


@pytest.fixture
def subject(kernel):
    return Subject("neuron-strict", Bfloat16(), (NkiAttention,))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_hold(check, subject, kernel):
    cases = list(attention(subject))
    kinds = {word for name, _ in cases for word in name.split("-")}
    assert kinds >= {"plain", "mha", "mqa", "gqa", "sinks"}
    assert not kinds & {"window_8", "soft_cap", "latent", "unequal_dims"}
    for _, case in cases:
        check(case, 0)
    assert kernel.launches > 0
    assert kernel.cores == 2


def test_rows_that_are_padded_inside_are_served(subject):
    for _, case in plan_checks.row_padded(subject):
        plan_checks.check_rows_padded_to_one_length(case, 0)


def test_a_few_queries_a_row_are_left_to_the_gather(kernel, monkeypatch):
    monkeypatch.setattr(NkiAttention, "fewest_queries", 128)
    made = NkiAttention(NEED, 16, device=torch.device("cpu"), ops=None)
    cache = made.allocate(4)
    plan = made.blank(Bucket("decode", 2, 2, query_len=1, max_blocks=2))
    q, k = torch.zeros(2, 4, 64, dtype=torch.bfloat16), torch.zeros(2, 2, 64, dtype=torch.bfloat16)
    layer = type("Layer", (), {"cache": cache, "sinks": None})()
    assert made.run(q, k, k, layer, plan).shape == (2, 4, 64)
    assert kernel.launches == 0


def test_the_kernel_runs_on_as_many_cores_as_the_graph(kernel, monkeypatch):
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "1")
    assert nki_kernel.kernel().cores == 1


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (msgspec.structs.replace(NEED, query_dtype="float32"), "multiplies in bfloat16"),
        (msgspec.structs.replace(NEED, kv=Paged(2, 64, 64, "float16")), "multiplies in bfloat16"),
        (msgspec.structs.replace(NEED, kv=Paged(2, 256, 256, "bfloat16")), "heads of one dim up to 128"),
        (msgspec.structs.replace(NEED, kv=Paged(2, 64, 32, "bfloat16")), "got 64 and 32"),
        (msgspec.structs.replace(NEED, soft_cap=30.0), "knows no soft cap"),
        (msgspec.structs.replace(NEED, kv=Windowed(2, 64, 64, "bfloat16", 8)), "Windowed caches are unknown to it"),
        (msgspec.structs.replace(NEED, kv=Latent(64, 16, "bfloat16")), "Latent caches are unknown to it"),
        (msgspec.structs.replace(NEED, query_heads=5), "5 query heads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_kernel_does_not_serve_is_refused(kernel, need, why):
    assert NkiAttention.objection(NEED) is None
    assert why in NkiAttention.objection(need)


def test_without_the_library_or_the_word_for_it_the_gather_serves(monkeypatch):
    monkeypatch.delenv(nki_kernel.SWITCH, raising=False)
    assert f"where {nki_kernel.SWITCH} is 1" in NkiAttention.objection(NEED)
    monkeypatch.setenv(nki_kernel.SWITCH, "1")
    assert NkiAttention.objection(NEED) == f"{nki_kernel.MODULE} cannot be imported: No module named 'nkilib'"
    assert GatheredAttention.objection(NEED) is None
