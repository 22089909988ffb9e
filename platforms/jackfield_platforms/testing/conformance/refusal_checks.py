"""What a backend accepts it must run; what it rejects it must explain; and somebody must serve what models need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jackfield_platforms.attention import AttentionBackend, AttentionNeed
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase, a_need, block_sizes, dtype_pairs
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.scene import Scene
from jackfield_platforms.testing.conformance.subject import Subject

_NEEDS_A_SEED = 6
_USUAL_DIMS = (64, 128)  # of heads, in nearly every published model


def backend(subject: Subject) -> Iterator[tuple[str, type[AttentionBackend[Any]]]]:
    """Every backend of the platform."""
    return ((one.name, one) for one in subject.backends)


def check_an_accepted_need_runs(subject: Subject, backend: type[AttentionBackend[Any]], seed: int) -> None:
    """Needs of odd sizes and combinations: each is either rejected with a sentence or served rightly."""
    rng = np.random.default_rng([seed, 3])
    for _ in range(_NEEDS_A_SEED):
        need = _random_need(subject, rng)
        reason = backend.objection(need)
        expect(backend.objection(need) == reason, f"{backend.name} changed its mind about {need}")
        if reason is None:
            case = AttentionCase(subject, backend, need, int(rng.choice(block_sizes(backend))))
            scene = Scene(case, [20, 33], seed)
            scene.fill([19, 32])
            scene.step([(0, 1), (1, 1)])
        else:
            expect(isinstance(reason, str) and reason.strip(), f"{backend.name} rejected {need} without a reason")


def _random_need(subject: Subject, rng: np.random.Generator) -> AttentionNeed:
    query, cached = dtype_pairs(subject)[rng.integers(len(dtype_pairs(subject)))]
    if rng.random() < 0.2:
        rank, query_heads = int(rng.choice([8, 20, 64, 160])), int(rng.choice([1, 3, 8]))
        return a_need(query, cached, rank, heads=(query_heads, 1), latent=True)
    kv_heads = int(rng.choice([1, 2, 3, 8]))
    return a_need(
        query,
        cached,
        int(rng.choice([8, 20, 64, 72, 96, 128, 160, 256])),
        heads=(kv_heads * int(rng.choice([1, 2, 5])), kv_heads),
        window=None if rng.random() < 0.5 else int(rng.integers(1, 40)),
        soft_cap=None if rng.random() < 0.5 else float(rng.uniform(0.5, 30)),
        sinks=bool(rng.random() < 0.5),
    )


def check_somebody_serves_plain_attention(subject: Subject) -> None:
    """For every dtype pair that the capabilities list, at the usual head sizes."""
    expect(subject.backends, f"platform {subject.name!r} has no attention backend")
    for query, cached in dtype_pairs(subject):
        for dim in _USUAL_DIMS:
            need = a_need(query, cached, dim)
            reasons = {one.name: one.objection(need) for one in subject.backends}
            expect(None in reasons.values(), f"nobody serves heads of {dim}, {query} on {cached}: {reasons}")
