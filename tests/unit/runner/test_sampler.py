"""The sampler against distributions written down in float64, and against itself in other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jackfield.engine.step import Start
from jackfield.runner.candidates import from_candidates
from jackfield.runner.draw import draw
from jackfield.runner.sampler import Sampled, Sampler
from jackfield.runner.slot_sampling import SlotSampling
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_platforms.reference import sampling_threshold

VOCAB = 1500
OPS = resolve(OpTable(), OpSpec("float32"))


def sample(
    logits: torch.Tensor,
    params: list[SamplingParams],
    *,
    positions: list[int] | None = None,
    may_wait: bool = True,
    stops: frozenset[int] = frozenset(),
    tokens: list[list[int]] | None = None,
    masks: torch.Tensor | None = None,
) -> Sampled:
    """Sample each row of `logits` for a slot of its own."""
    sampler, slots = (
        Sampler(logits.shape[-1], torch.device("cpu"), may_wait=may_wait, ops=OPS),
        SlotSampling(64, logits.shape[-1]),
    )
    for slot, one in enumerate(params):
        ids = np.array(tokens[slot] if tokens else [1], np.int32)
        start = Start(slot, one, stops, prompt_len=1, tokens=ids.tobytes())
        sampler.start(start)
        slots.start(start)
    places = np.array(positions or [1] * len(params))
    return sampler.sample(logits.clone(), slots.rows(np.arange(len(params)), places), masks)


def kept_set(logits: torch.Tensor, top_k: int, top_p: float) -> set[int]:
    """What top-k then top-p keep, sorted in float64."""
    order = logits.double().argsort(descending=True)[:top_k]
    probs = logits.double()[order].softmax(-1)
    before = probs.cumsum(-1) - probs
    return set((order if top_p == 1 else order[before < top_p]).tolist())


@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(VOCAB, 0.9), (5, 1.0), (40, 0.5), (1, 0.3), (1300, 0.99), (VOCAB, 1.0), (1100, 1.0)]
)
def test_both_thresholds_keep_what_sorting_keeps(scale: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(7, VOCAB, generator=torch.Generator().manual_seed(top_k)) * scale
    ks, ps = torch.full((7,), top_k), torch.full((7,), top_p)
    fast, enough = from_candidates(logits, ks, ps)
    exact = sampling_threshold(logits, ks, ps)
    for row in range(7):
        expected = kept_set(logits[row], top_k, top_p)
        found = set((logits[row] >= exact[row]).nonzero().flatten().tolist())
        assert len(found ^ expected) <= 1  # a sum in float32 may fall on the other side of the border
        if enough[row]:
            assert len(set((logits[row] >= fast[row]).nonzero().flatten().tolist()) ^ expected) <= 1


def test_candidates_say_when_they_are_too_few() -> None:
    flat = torch.zeros(1, 50_000)
    _, enough = from_candidates(flat, torch.tensor([50_000]), torch.tensor([0.9]))
    assert not enough.item()


def test_threshold_ignores_forbidden_tokens() -> None:
    logits = torch.full((1, 100), -torch.inf)
    logits[0, 7], logits[0, 9] = 1.0, 0.5
    for threshold in (
        sampling_threshold(logits, torch.tensor([3]), torch.tensor([1.0])),
        from_candidates(logits, torch.tensor([3]), torch.tensor([1.0]))[0],
    ):
        assert draw(logits.masked_fill(logits < threshold, -torch.inf), torch.tensor([0.999])).item() == 9


def test_draw_is_the_inverse_of_the_distribution() -> None:
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(4)) * 2
    logits[:, ::3] = -torch.inf
    numbers = torch.rand(3, 4000, generator=torch.Generator().manual_seed(5))
    bounds = logits.double().softmax(-1).cumsum(-1)
    for row in range(3):
        ids = draw(logits[row].expand(4000, -1), numbers[row])
        expected = torch.searchsorted(bounds[row], numbers[row].double(), right=True)
        wrong = (ids != expected).nonzero().flatten()
        near = (bounds[row][expected[wrong].clamp(max=VOCAB - 1)] - numbers[row][wrong]).abs()
        assert (ids % 3 != 0).all()
        assert len(wrong) <= 8
        assert (near < 1e-5).all()


def test_draw_at_the_ends() -> None:
    logits = torch.full((2, 1025), -torch.inf)
    logits[:, 600] = 0.0
    assert draw(logits, torch.tensor([0.0, 0.99999994])).tolist() == [600, 600]


@pytest.mark.parametrize("may_wait", [True, False])
def test_a_row_is_the_same_alone_and_in_a_batch(may_wait: bool) -> None:
    logits = torch.randn(5, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    params = [
        SamplingParams(temperature=0.0, seed=1),
        SamplingParams(temperature=0.7, top_p=0.9, seed=2),
        SamplingParams(temperature=1.5, top_k=20, seed=3),
        SamplingParams(temperature=1.0, min_p=0.2, seed=4),
        SamplingParams(temperature=1.0, seed=5, frequency_penalty=1.0),
    ]
    together = sample(logits, params, may_wait=may_wait).ids.tolist()
    alone = [sample(logits[i : i + 1], [params[i]], may_wait=may_wait).ids.item() for i in range(5)]
    assert together == alone
    assert together[0] == logits[0].argmax().item()


def test_frequencies_follow_the_filtered_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]]).expand(60, -1).contiguous()
    params = [SamplingParams(temperature=0.8, top_k=3, seed=7) for _ in range(60)]
    counts = np.zeros(5)
    for step in range(100):
        ids = sample(logits, params, positions=[step * 60 + i for i in range(60)]).ids
        counts += np.bincount(ids.numpy(), minlength=5)
    expected = torch.tensor([2.0, 1.0, 0.5]).double().div(0.8).softmax(-1).numpy() * 6000
    assert counts[3:].sum() == 0
    assert ((counts[:3] - expected) ** 2 / expected).sum() < 18.4  # 2 degrees of freedom: 1e-4 beyond


def test_edits_and_min_tokens() -> None:
    logits = torch.zeros(4, 50)
    logits[:, 3] = 5.0
    params = [
        SamplingParams(temperature=0, seed=0, logit_bias={8: 50.0}),
        SamplingParams(temperature=0, seed=0, allowed_token_ids=[4, 40]),
        SamplingParams(temperature=0, seed=0, min_tokens=3),
        SamplingParams(temperature=0, seed=0, min_tokens=3),
    ]
    ids = sample(logits, params, positions=[1, 1, 3, 4], stops=frozenset({3})).ids.tolist()
    assert ids[0] == 8
    assert ids[1] in (4, 40)
    assert ids[2] != 3  # two generated so far
    assert ids[3] == 3  # three generated so far


def test_penalties_count_prompt_and_generated_tokens() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    tokens = [[9, 5, 5, 7]] * 3  # prompt [9], generated [5, 5, 7]
    params = [
        SamplingParams(temperature=0, seed=0, presence_penalty=1.5),
        SamplingParams(temperature=0, seed=0, frequency_penalty=0.5),
        SamplingParams(temperature=0, seed=0, repetition_penalty=2.0),
    ]
    for row, change in enumerate(["presence", "frequency", "repetition"]):
        for winner in (5, 7, 9):
            case = logits.clone()
            case[row, winner] = case[row].max() + 0.4
            line = case[row].double()
            if change == "presence":
                line[[5, 7]] -= 1.5
            elif change == "frequency":
                line[5], line[7] = line[5] - 1.0, line[7] - 0.5
            else:
                for i in (5, 7, 9):
                    line[i] = line[i] / 2 if line[i] > 0 else line[i] * 2
            assert sample(case, params, tokens=tokens).ids[row].item() == line.argmax().item()


def test_logprobs_are_of_the_models_own_distribution() -> None:
    logits = torch.randn(2, 80, generator=torch.Generator().manual_seed(3))
    params = [
        SamplingParams(temperature=0.5, seed=1),
        SamplingParams(temperature=2.0, seed=2, logprobs=4, logit_bias={5: 90.0}),
    ]
    sampled = sample(logits, params)
    scores = logits[1].double().log_softmax(-1)
    assert sampled.logprobs is not None
    assert sampled.ids[1].item() == 5
    torch.testing.assert_close(sampled.logprobs.own[0].double(), scores[5], atol=1e-6, rtol=0)
    assert sampled.logprobs.rank.item() == (scores > scores[5]).sum().item() + 1
    assert sampled.logprobs.top_ids[0].tolist() == scores.topk(4).indices.tolist()


def test_masks_allow_ids_bit_by_bit() -> None:
    logits = torch.randn(2, 70, generator=torch.Generator().manual_seed(6))
    allowed = {0: 33, 1: 69}
    masks = torch.zeros(2, 3, dtype=torch.int32)
    for row, token in allowed.items():
        masks[row, token // 32] = 1 << (token % 32)
    params = [SamplingParams(temperature=0, seed=0), SamplingParams(temperature=1.0, seed=0)]
    assert sample(logits, params, masks=masks).ids.tolist() == [33, 69]
