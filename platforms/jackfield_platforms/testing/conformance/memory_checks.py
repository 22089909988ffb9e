"""Bytes: what the platform reports, and what a block of the cache takes.

Whether an allocation lowers what `memory` reports as free is not checked: on a machine that others use it need not, and
an emulated device reports a constant. What the engine sizes its cache with is `block_bytes`, and that is checked.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from jackfield_platforms.buffers import tensors
from jackfield_platforms.ops import OpSpec, resolve
from jackfield_platforms.platform import Memory
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.subject import Subject

_TAKEN = 8 << 20  # bytes of a tensor
_ROOM = 1.05  # of what block_bytes says: alignment, scales


def check_memory_adds_up(subject: Subject) -> None:
    """0 <= free <= total, total is positive, and `limit` says what set it."""
    memory = subject.platform.memory(subject.platform.device())
    expect(isinstance(memory, Memory), f"wanted a Memory; found {memory!r}")
    expect(memory.total > 0, f"total is {memory.total}")
    expect(0 <= memory.free <= memory.total, f"free is {memory.free} of {memory.total}")
    expect(memory.limit, "limit does not say what set the total")


def watched(subject: Subject) -> Iterator[tuple[str, Subject]]:
    """The platform, if it counts what is taken of its memory."""
    if subject.platform.watch_memory(subject.platform.device()) is not None:
        yield subject.name, subject


def check_watched_memory_is_what_was_taken(watched: Subject) -> None:
    """The most at once, not the sum, and not what was there before."""
    platform = watched.platform
    device = platform.device()
    held = torch.ones(_TAKEN, dtype=torch.uint8, device=device)
    count = platform.watch_memory(device)
    assert count is not None
    for _ in range(3):
        both = [torch.ones(_TAKEN, dtype=torch.uint8, device=device) for _ in range(2)]
        del both
    platform.synchronize(device)
    del held
    taken = count()
    expect(
        2 * _TAKEN <= taken <= 2.5 * _TAKEN,
        f"two tensors of {_TAKEN} bytes were there at once; {taken} bytes are said to be",
    )


@torch.inference_mode()
def check_a_block_takes_what_block_bytes_says(plain_attention: AttentionCase) -> None:
    """The engine makes as many blocks as fit: one that is larger than stated ends in an out-of-memory error."""
    case, platform = plain_attention, plain_attention.subject.platform
    ops = resolve(platform.ops(), OpSpec(case.need.query_dtype))
    backend = case.backend(case.need, case.block_size, device=platform.device(), ops=ops)
    few, many = (sum(x.nbytes for x in tensors(backend.allocate(count)).values()) for count in (8, 72))
    stated = case.backend.block_bytes(case.need.kv, case.block_size)
    taken = (many - few) / 64
    expect(stated > 0, f"block_bytes says {stated}")
    expect(many == 0 or taken <= stated * _ROOM, f"a block takes {taken:g} bytes; block_bytes says {stated}")
