"""The threshold of top-k and top-p in one launch, beside plain torch and beside a sort."""

from __future__ import annotations

import pytest
import torch

from jackfield_gpu.sampling.threshold import sampling_threshold
from jackfield_platforms import reference


def by_sorting(logits: torch.Tensor, top_k: int, top_p: float) -> float:
    """From the definition, in float64."""
    ordered = logits.double().sort(descending=True).values[:top_k]
    ordered = ordered[ordered > -torch.inf]
    probs = ordered.softmax(0)
    kept = ((probs.cumsum(0) - probs) < top_p) | (top_p >= 1)
    return float(ordered[kept][-1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [7, 1000, 3000])
def test_it_is_what_a_sort_gives(width, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = 6
    logits = torch.randn(rows, width, generator=generator) * 4
    logits[torch.rand(rows, width, generator=generator) < 0.1] = -torch.inf
    logits[:, 3] = 1.0
    top_k = torch.tensor([width, 1, 5, width, 50, width]).clamp(max=width)
    top_p = torch.tensor([1.0, 1.0, 0.3, 0.9, 0.95, 0.05])
    found = sampling_threshold(logits, top_k, top_p)
    wanted = [by_sorting(*each) for each in zip(logits, top_k.tolist(), top_p.tolist(), strict=True)]
    assert found.shape == (rows, 1)
    assert found.squeeze(1).tolist() == wanted
    assert torch.equal(found, reference.sampling_threshold(logits, top_k, top_p))


def test_ties_with_the_lowest_stay():
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    assert sampling_threshold(logits, torch.tensor([2]), torch.ones(1)).item() == 1.0


def test_rows_that_lie_apart_and_no_rows():
    wide = torch.randn(4, 300)
    assert torch.equal(
        sampling_threshold(wide[::2, 10:200], torch.tensor([3, 9]), torch.tensor([1.0, 0.5])),
        reference.sampling_threshold(wide[::2, 10:200], torch.tensor([3, 9]), torch.tensor([1.0, 0.5])),
    )
    assert sampling_threshold(wide[:0], torch.tensor([], dtype=torch.int64), torch.tensor([])).shape == (0, 1)
