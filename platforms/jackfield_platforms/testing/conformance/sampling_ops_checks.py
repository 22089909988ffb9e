"""The ops that sampling is made of: the highest logit, penalties, and what top-k and top-p keep."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from jackfield_platforms.testing.conformance import oracle
from jackfield_platforms.testing.conformance.mismatch import compare, expect
from jackfield_platforms.testing.conformance.ops_checks import SIZES, OpCase, cases_of
from jackfield_platforms.testing.conformance.subject import Subject

_SIZES = (*SIZES, (5, 20_011))  # rows, vocabulary
_NEAR = 1e-5  # sums of probabilities in float32 this near to top-p may fall on either side of it
_FLOAT32 = torch.finfo(torch.float32).eps


def argmax(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of argmax."""
    return cases_of(subject, "argmax")


def penalize(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of penalize."""
    return cases_of(subject, "penalize")


def sampling_threshold(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of sampling_threshold."""
    return cases_of(subject, "sampling_threshold")


@torch.inference_mode()
def check_argmax(argmax: OpCase, seed: int) -> None:
    """The place of the highest in rows of every kind: forbidden tokens are -inf, and of equal ones the first counts."""
    generator = torch.Generator().manual_seed(seed)
    for rows, width in _SIZES:
        x = argmax.draw((rows, width), seed, 3.0)
        x[:, torch.randint(width, (width // 3,), generator=generator)] = -torch.inf
        alike = torch.randint(width, (rows, 3), generator=generator)
        x[::2] = x[::2].scatter(1, alike[::2], 100.0)
        x[-1] = -torch.inf if rows > 1 else x[-1]
        wanted = torch.tensor([row.index(max(row)) for row in x.tolist()])
        given = argmax.put(x)
        got = argmax.impl.fn(given)
        what = f"argmax of [{rows}, {width}]"
        expect(got.dtype == torch.int64, f"{what}: wanted int64; found {got.dtype}")
        expect(torch.equal(got.cpu(), wanted), f"{what}: wanted {wanted.tolist()}; found {got.tolist()}")
        expect(torch.equal(given.cpu(), x), "argmax changed its input in place")


@torch.inference_mode()
def check_penalize(penalize: OpCase, seed: int) -> None:
    """Rows with penalties of all kinds and of none, whose counts lie in lines in any order between those of others."""
    generator = torch.Generator().manual_seed(seed)
    where = penalize.subject.platform.device()
    for rows, width in _SIZES:
        logits = torch.randn(rows, width, generator=generator) * 3
        forbidden = torch.rand(rows, width, generator=generator) < 0.1
        seen = torch.randint(-20, 9, (2 * rows, width), generator=generator).clamp(min=0).int()
        places = torch.randperm(2 * rows, generator=generator)[:rows]
        factors = torch.rand(rows, 3, generator=generator) * torch.tensor([1.5, 2.0, -2.0]) + torch.tensor([0.5, 0, 0])
        factors[::3] = torch.tensor([1.0, 0.0, 0.0])
        given = logits.masked_fill(forbidden, -torch.inf).to(where)
        got = penalize.impl.fn(given, seen.to(where), places.to(where), factors.to(where)).cpu()
        what = f"penalize of [{rows}, {width}]"
        expect(got.dtype == torch.float32, f"{what}: wanted float32; found {got.dtype}")
        expect(torch.equal(got == -torch.inf, forbidden), f"{what}: other ids are forbidden after it")
        wanted = oracle.penalize(logits.double(), seen[places], factors.double()).masked_fill(forbidden, 0)
        allowed = 8 * _FLOAT32 * (wanted.abs() + logits.abs() + 10)  # penalties are some 4 counts of 2 each
        compare(got.masked_fill(forbidden, 0), wanted, allowed, what)
        expect(torch.equal(given.cpu(), logits.masked_fill(forbidden, -torch.inf)), "penalize changed its input logits")


@torch.inference_mode()
def check_sampling_threshold(sampling_threshold: OpCase, seed: int) -> None:
    """Rows with top-k, with top-p, with both and with none, in which some ids are forbidden and some are alike."""
    generator = torch.Generator().manual_seed(seed)
    where = sampling_threshold.subject.platform.device()
    for rows, width in _SIZES:
        logits = torch.randn(rows, width, generator=generator) * torch.rand(rows, 1, generator=generator) * 6
        logits[torch.rand(rows, width, generator=generator) < 0.1] = -torch.inf
        logits[:, : width // 4] = logits[:, : width // 4].round()
        logits[:, 3] = 1.0
        top_k = torch.randint(1, width + 1, (rows,), generator=generator)
        top_k[::3] = width
        top_p = 0.05 + 0.9 * torch.rand(rows, generator=generator)
        top_p[::4] = 1.0
        given = logits.to(where)
        got = sampling_threshold.impl.fn(given, top_k.to(where), top_p.to(where)).cpu()
        what = f"sampling_threshold of [{rows}, {width}]"
        expect(got.shape == (rows, 1), f"{what}: wanted shape [{rows}, 1]; found {list(got.shape)}")
        for row, found in enumerate(got.flatten().tolist()):
            low, high = (_kept_from(logits[row], top_k[row], top_p[row], slack) for slack in (_NEAR, -_NEAR))
            asked = f"row {row}, top_k {int(top_k[row])}, top_p {float(top_p[row]):.6f}"
            expect(low <= found <= high, f"{what}: {asked}: wanted {high:.7g}, found {found:.7g}")
            expect(bool((logits[row] == found).any()), f"{what}: {asked}: {found:.7g} is none of the logits")
        expect(torch.equal(given.cpu(), logits), "sampling_threshold changed its input in place")


def _kept_from(logits: Tensor, top_k: Tensor, top_p: Tensor, slack: float) -> float:
    return oracle.kept_from(logits.double(), int(top_k), float(top_p) + slack if top_p < 1 else 1.0)
