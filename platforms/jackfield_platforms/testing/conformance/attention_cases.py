"""What attention is checked with: every backend, what layers may ask of it, the platform's dtypes, block sizes.

A need that a backend rejects is left out: the core would ask the next backend, or say why none can serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from jackfield_platforms.attention import AttentionBackend, AttentionNeed
from jackfield_platforms.kv import KVSpec, Latent, Paged, Windowed
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.testing.conformance.subject import Subject

_HEAD_DIMS = (16, 64, 128)  # the smallest that the backend takes keeps the kit quick
_MOST_BLOCK = 64  # tokens: larger blocks only make scenes larger
_SCALE = 0.3  # not 1 / sqrt(dim), which a backend may take without being asked
VARIANTS: dict[str, dict[str, Any]] = {  # dims are multiples of the head size
    "plain": {},
    "mha": {"heads": (3, 3)},
    "mqa": {"heads": (4, 1)},
    "gqa": {"heads": (6, 2)},
    "unequal_dims": {"k_dim": 1.5, "v_dim": 0.5},
    "window_1": {"window": 1},
    "window_8": {"window": 8},
    "window_21": {"window": 21},
    "soft_cap": {"soft_cap": 1.5},
    "sinks": {"sinks": True},
    "alibi": {"alibi": True},
    "alibi_window": {"heads": (6, 2), "alibi": True, "window": 21, "sinks": True},
    "scaled": {"kv_scales": True},
    "latent": {"heads": (4, 1), "latent": True},
    "latent_capped": {"heads": (3, 1), "latent": True, "soft_cap": 1.5, "sinks": True},
    "latent_scaled": {"heads": (4, 1), "latent": True, "kv_scales": True},
    "everything": {"heads": (6, 2), "sinks": True, "soft_cap": 2.0, "window": 11, "v_dim": 2},
}
_EVERY_BLOCK_SIZE = ("plain", "everything", "latent")


class AttentionCase(msgspec.Struct, frozen=True, eq=False):
    """One backend, one need that it accepts, one block size."""

    subject: Subject
    backend: type[AttentionBackend[Any]]
    need: AttentionNeed
    block_size: int


def attention(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Every variant at the smallest block size, the plainest and the fullest one at two more."""
    for backend in subject.backends:
        for query, cached in dtype_pairs(subject):
            names = VARIANTS if query == cached else _EVERY_BLOCK_SIZE
            for variant in names:
                need = accepted(backend, query, cached, VARIANTS[variant])
                sizes = block_sizes(backend)
                for size in sizes if variant in _EVERY_BLOCK_SIZE and query == cached else sizes[:1]:
                    if need is not None:
                        label = query if query == cached else f"{query}_on_{cached}"
                        yield f"{backend.name}-{label}-{variant}-{size}", AttentionCase(subject, backend, need, size)


def plain_attention(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """The plainest, the fullest and the latent variant alone."""
    for name, case in attention(subject):
        if any(f"-{variant}-" in name for variant in _EVERY_BLOCK_SIZE):
            yield name, case


def rotated_attention(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """`plain_attention` where the backend rotates: latents come rotated.

    Rotated keys are rounded once more, to 8 bits by more than a wrong angle might show: such caches are left out.
    """
    for name, case in plain_attention(subject):
        if not isinstance(case.need.kv, Latent) and torch_dtype(case.need.kv.dtype).itemsize > 1:
            yield name, case


def chunked_attention(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """`plain_attention` where prompts may be split over steps."""
    return plain_attention(subject) if subject.platform.capabilities().scheduling.chunked else iter(())


def dtype_pairs(subject: Subject) -> list[tuple[str, str]]:
    """(query, cache) dtypes: the same where the platform lists it for both, and each cache dtype with another."""
    caps = subject.platform.capabilities()
    same = [(dtype, dtype) for dtype in caps.dtypes if dtype in caps.kv_dtypes]
    other = ((next((dtype for dtype in caps.dtypes if dtype != cached), None), cached) for cached in caps.kv_dtypes)
    return [*same, *((query, cached) for query, cached in other if query is not None)]


def block_sizes(backend: type[AttentionBackend[Any]]) -> tuple[int, ...]:
    """The smallest, the preferred one, and the smallest that is no power of two, as far as they are small."""
    smallest, preferred = min(backend.block_sizes), backend.block_sizes[0]
    odd = min((size for size in backend.block_sizes if size & (size - 1)), default=smallest)
    return tuple(dict.fromkeys(size for size in (smallest, preferred, odd) if size <= max(_MOST_BLOCK, smallest)))


def accepted(
    backend: type[AttentionBackend[Any]], query: str, cached: str, changes: dict[str, Any]
) -> AttentionNeed | None:
    """The need of the smallest head size that the backend accepts; None when it rejects all."""
    needs = (a_need(query, cached, dim, **changes) for dim in _HEAD_DIMS)
    return next((need for need in needs if backend.objection(need) is None), None)


def a_need(
    query: str, cached: str, dim: int, *, heads: tuple[int, int] = (4, 2), window: int | None = None, **changes: Any
) -> AttentionNeed:
    """A need with `heads` (query, kv) of `dim`; `k_dim` and `v_dim` are factors. `latent`: rank is `dim`."""
    scale = _SCALE * (16 / dim) ** 0.5
    if changes.pop("latent", False):
        return AttentionNeed(Latent(dim, dim // 2, cached), heads[0], scale, query_dtype=query, **changes)
    k_dim, v_dim = int(dim * changes.pop("k_dim", 1)), int(dim * changes.pop("v_dim", 1))
    sizes = (heads[1], k_dim, v_dim, cached)
    kv: KVSpec = Paged(*sizes) if window is None else Windowed(*sizes, window)
    return AttentionNeed(kv, heads[0], scale, query_dtype=query, **changes)
