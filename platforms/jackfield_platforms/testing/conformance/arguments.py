"""The arguments that a check may take, by name: each is run over every case of each of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from jackfield_platforms.testing.conformance import (
    attention_cases,
    bucket_checks,
    compile_checks,
    elastic_checks,
    encoded_checks,
    experts_checks,
    fuse_checks,
    graph_checks,
    linear_checks,
    memory_checks,
    ops_checks,
    piece_checks,
    plan_checks,
    probe_checks,
    rank_checks,
    refusal_checks,
    sampling_ops_checks,
    transfer_checks,
)
from jackfield_platforms.testing.conformance.subject import Subject

Cases = Callable[[Subject], Iterable[tuple[str, Any]]]


class Argument(msgspec.Struct, frozen=True):
    """The cases of an argument, and what a platform has of which there are any."""

    cases: Cases
    needs: str


def _subject(subject: Subject) -> Iterable[tuple[str, Any]]:
    return [(subject.name, subject)]


def _float32_subject(subject: Subject) -> Iterable[tuple[str, Any]]:
    """The platform, if it computes and caches in float32."""
    caps = subject.platform.capabilities()
    return _subject(subject) if "float32" in set(caps.dtypes) & set(caps.kv_dtypes) else []


ARGUMENTS: Mapping[str, Argument] = {
    "subject": Argument(_subject, "nothing more than a platform"),
    "float32_subject": Argument(_float32_subject, "float32 among both `dtypes` and `kv_dtypes` of its `capabilities`"),
    "attention": Argument(
        attention_cases.attention, "an attention backend whose `rejects` takes one of the kit's needs"
    ),
    "plain_attention": Argument(
        attention_cases.plain_attention,
        "an attention backend that takes a plain need, sinks with a cap and a window, or latents",
    ),
    "rotated_attention": Argument(
        attention_cases.rotated_attention, "an attention backend that takes a need other than latents"
    ),
    "exporting": Argument(
        transfer_checks.exporting, "an attention backend with `exports = True`, and `export_tokens` and `import_tokens`"
    ),
    "chunked_attention": Argument(
        attention_cases.chunked_attention,
        "an attention backend, and `chunked` not False in the capabilities' `scheduling`",
    ),
    "backend": Argument(refusal_checks.backend, "an attention backend"),
    "row_padded": Argument(
        plan_checks.row_padded, "a bucket with a `query_len` above 1 in `buckets`, or no buckets at all"
    ),
    "bucketed": Argument(
        plan_checks.bucketed, "`buckets` that plan sizes, and an attention backend that takes the first of `dtypes`"
    ),
    "captured": Argument(
        plan_checks.captured, '`buckets`, a `graph_runner` that captures, and a backend whose `graphs` is not "none"'
    ),
    "watched": Argument(memory_checks.watched, "a `watch_memory` that counts, not None"),
    "rms_norm": Argument(ops_checks.rms_norm, "an implementation of the op; plain torch is one"),
    "reduce_add_rms_norm": Argument(ops_checks.reduce_add_rms_norm, "an implementation of the op; plain torch is one"),
    "silu_mul": Argument(ops_checks.silu_mul, "an implementation of the op; plain torch is one"),
    "rotary": Argument(ops_checks.rotary, "an implementation of the op; plain torch is one"),
    "argmax": Argument(sampling_ops_checks.argmax, "an implementation of the op; plain torch is one"),
    "penalize": Argument(sampling_ops_checks.penalize, "an implementation of the op; plain torch is one"),
    "sampling_threshold": Argument(
        sampling_ops_checks.sampling_threshold, "an implementation of the op; plain torch is one"
    ),
    "lora_add": Argument(ops_checks.lora_add, "an implementation of the op; plain torch is one"),
    "linear": Argument(linear_checks.linear, "a linear op that takes plain weights; plain torch does"),
    "gathered": Argument(
        linear_checks.gathered, "a linear op that takes a plain embedding with `gathers`; plain torch does"
    ),
    "fused": Argument(
        fuse_checks.fused, "a `fuse` that returns a function, not a reason, for one of the kit's decoder layers"
    ),
    "experts": Argument(
        experts_checks.experts, "an `experts` that returns a function, not a reason, for one of the kit's routings"
    ),
    "encoded": Argument(encoded_checks.encoded, "a linear op that takes an encoded weight; plain torch does"),
    "encoded_table": Argument(
        encoded_checks.encoded_table, "a linear op that takes an encoded embedding with `gathers`; plain torch does"
    ),
    "traceable": Argument(compile_checks.traceable, 'an attention backend whose `graphs` is not "none"'),
    "program": Argument(graph_checks.program, "nothing more than a platform"),
    "capturing": Argument(graph_checks.capturing, "a `graph_runner` that captures"),
    "elastic": Argument(
        elastic_checks.elastic, "a `graph_runner` whose `elastic()` gives Elastic, and norms and a gate of its own"
    ),
    "elastic_attention": Argument(
        elastic_checks.elastic_attention,
        "a `graph_runner` whose `elastic()` gives Elastic, and an attention backend that says it is `elastic`",
    ),
    "split": Argument(piece_checks.split, "a `graph_runner` whose `pieces()` gives Pieces, not a reason"),
    "planned": Argument(bucket_checks.planned, "`buckets` that plan sizes"),
    "saved": Argument(bucket_checks.saved, "`buckets` that give a `StaticBuckets`"),
    "several_ranks": Argument(rank_checks.several_ranks, "`max_ranks` of 2 or more, or None, in its `capabilities`"),
    "probe_module": Argument(probe_checks.probe_module, "an entry point in `jackfield.probes`"),
}
