"""How a check fails: with what was wanted, what was found and where."""

from __future__ import annotations

import torch
from torch import Tensor


class Mismatch(AssertionError):
    """A check failed. The message says what was wanted and what was found."""


def expect(holds: object, message: str) -> None:
    """Mismatch with `message` unless `holds`; unlike `assert` it is not dropped by `python -O`."""
    if not holds:
        raise Mismatch(message)


def compare(got: Tensor, wanted: Tensor, allowed: float | Tensor, what: str) -> None:
    """Every element of `got` within `allowed` (absolute) of the float64 tensor `wanted`; NaN is never near."""
    expect(got.shape == wanted.shape, f"{what}: wanted shape {tuple(wanted.shape)}, found {tuple(got.shape)}")
    found = got.detach().cpu().double()
    wrong = ~((found - wanted).abs() <= allowed)
    if wrong.any():
        first = tuple(int(place) for place in wrong.nonzero()[0])
        limit = torch.as_tensor(allowed).expand(wanted.shape)[first].item()
        raise Mismatch(
            f"{what}: at {first} wanted {wanted[first].item():.7g}, found {found[first].item():.7g}; "
            f"{int(wrong.sum())} of {wrong.numel()} elements are further apart than allowed ({limit:.2g})"
        )


def near(got: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """`compare`, with `tolerance` relative to the largest element of `wanted`, but at least to 1."""
    compare(got, wanted, tolerance * max(1.0, float(wanted.abs().max()) if wanted.numel() else 1.0), what)
