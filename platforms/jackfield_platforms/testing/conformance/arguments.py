"""The arguments that a check may take, by name: each is run over every case of each of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jackfield_platforms.testing.conformance import (
    attention_cases,
    bucket_checks,
    compile_checks,
    encoded_checks,
    fuse_checks,
    graph_checks,
    linear_checks,
    ops_checks,
    piece_checks,
    plan_checks,
    probe_checks,
    rank_checks,
    refusal_checks,
    transfer_checks,
)
from jackfield_platforms.testing.conformance.subject import Subject

Cases = Callable[[Subject], Iterable[tuple[str, Any]]]


def _subject(subject: Subject) -> Iterable[tuple[str, Any]]:
    return [(subject.name, subject)]


def _float32_subject(subject: Subject) -> Iterable[tuple[str, Any]]:
    """The platform, if it computes and caches in float32."""
    caps = subject.platform.capabilities()
    return _subject(subject) if "float32" in set(caps.dtypes) & set(caps.kv_dtypes) else []


ARGUMENTS: Mapping[str, Cases] = {
    "subject": _subject,
    "float32_subject": _float32_subject,
    "attention": attention_cases.attention,
    "plain_attention": attention_cases.plain_attention,
    "rotated_attention": attention_cases.rotated_attention,
    "exporting": transfer_checks.exporting,
    "chunked_attention": attention_cases.chunked_attention,
    "backend": refusal_checks.backend,
    "row_padded": plan_checks.row_padded,
    "bucketed": plan_checks.bucketed,
    "captured": plan_checks.captured,
    "rms_norm": ops_checks.rms_norm,
    "reduce_add_rms_norm": ops_checks.reduce_add_rms_norm,
    "silu_mul": ops_checks.silu_mul,
    "rotary": ops_checks.rotary,
    "lora_add": ops_checks.lora_add,
    "linear": linear_checks.linear,
    "gathered": linear_checks.gathered,
    "fused": fuse_checks.fused,
    "encoded": encoded_checks.encoded,
    "encoded_table": encoded_checks.encoded_table,
    "traceable": compile_checks.traceable,
    "program": graph_checks.program,
    "capturing": graph_checks.capturing,
    "split": piece_checks.split,
    "planned": bucket_checks.planned,
    "saved": bucket_checks.saved,
    "several_ranks": rank_checks.several_ranks,
    "probe_module": probe_checks.probe_module,
}
