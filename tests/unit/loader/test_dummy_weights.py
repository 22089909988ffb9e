"""Random weights without files: repeatable, and neither vanishing nor exploding."""

from __future__ import annotations

from collections.abc import Callable

import torch

from jackfield.models.interface import Model, StepInputs

Dummy = Callable[[int], Model]


def hidden_of(model: Model) -> torch.Tensor:
    """Hidden states of 20 tokens under an attention that passes values through."""
    positions = torch.arange(20)
    step = StepInputs(
        tokens=positions + 5,
        positions=positions,
        attend=lambda layer, q, k, v, rope: v.repeat_interleave(q.shape[1] // v.shape[1], dim=1),
    )
    return model.forward(model.embed(step), step)["hidden"]


def test_a_seed_gives_the_same_model_again(dummy: Dummy) -> None:
    first, again, other = (hidden_of(dummy(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_logits_have_a_size_that_sampling_can_use(dummy: Dummy) -> None:
    model = dummy(0)
    logits = model.logits(hidden_of(model))
    assert logits.shape == (20, 50)
    assert 0.1 < logits.std() < 10
