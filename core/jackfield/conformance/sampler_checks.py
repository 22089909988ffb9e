"""The sampler on the platform's device, against the distributions that its parameters define, in float64.

The sampler is the core's; what is asked here is whether the device's sums, maxima and comparisons carry it. Uniform
numbers come from seed and position, so that nothing here is left to chance.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from jackfield.conformance.planned_rows import PlannedRows
from jackfield.engine.step import Start
from jackfield.runner.sampler import Sampled, Sampler
from jackfield.runner.slot_sampling import RandomRows, SlotSampling
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.ops import OpSpec, resolve
from jackfield_platforms.testing.conformance.mismatch import compare, expect
from jackfield_platforms.testing.conformance.subject import Subject

_VOCAB = 1100  # more than the candidates that a short way to top-p looks at, and than a block of the draw's sums
_LIKELY = 24  # tokens that have nearly all the mass
_SEQUENCES, _STEPS = 256, 8
_LEAST_EXPECTED = 10.0  # rarer tokens are counted together
_DEVIATIONS = 5.0  # of a normal variable: 3e-7 beyond
_LOGPROB_ERROR = 1e-4  # of float32 logits around 100
_FLAT: dict[str, Any] = {"temperature": 100.0, "top_p": 0.99}  # more tokens than the short way to top-p looks at
_NEAR = 3e-5  # a uniform number this near the border of two tokens may fall either way in float32
_ATTEMPTS = 20
Way = Literal["waits", "does not wait", "runs at fixed sizes"]
_WAYS: tuple[Way, ...] = ("waits", "does not wait", "runs at fixed sizes")
_WAITS, _, _PLANNED = _WAYS


def check_frequencies_follow_the_temperature(subject: Subject, seed: int) -> None:
    """Softmax of logits / temperature."""
    for temperature in (0.6, 1.7):
        _check_frequencies(subject, seed, SamplingParams(temperature=temperature, seed=0))


def check_frequencies_follow_top_k(subject: Subject, seed: int) -> None:
    """The k likeliest share all the mass, as they did before."""
    for top_k in (7,):
        _check_frequencies(subject, seed, SamplingParams(temperature=1.3, top_k=top_k, seed=0))


def check_frequencies_follow_top_p(subject: Subject, seed: int) -> None:
    """The likeliest tokens until their mass reaches p; after top-k where both are given."""
    for top_p, top_k in ((0.6, 0), (0.8, 6)):
        _check_frequencies(subject, seed, SamplingParams(temperature=1.3, top_p=top_p, top_k=top_k, seed=0))


def check_frequencies_follow_min_p(subject: Subject, seed: int) -> None:
    """Tokens at least min_p times as likely as the likeliest."""
    for min_p in (0.1, 1.0):
        _check_frequencies(subject, seed, SamplingParams(temperature=1.3, min_p=min_p, seed=0))


def check_ids_follow_from_the_uniform_numbers(subject: Subject, seed: int) -> None:
    """Each id is the inverse of the cumulative distribution at its number, so that two devices sample the same ids."""
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"top_k": 40, "top_p": 0.95},
        _FLAT,
    )
    for kind in kinds:
        params = SamplingParams(**{"temperature": 0.9, "seed": 0, **kind})
        logits = _clear_logits(seed, params)
        masses = _masses(logits, params)
        bounds = masses.cumsum(0)
        for way in _WAYS:
            ids, uniforms = _sampled(subject, logits, params, way, steps=1)
            wanted = torch.searchsorted(bounds, uniforms.double(), right=True).clamp(max=_VOCAB - 1)
            clear = (bounds[wanted] - uniforms).abs().minimum(
                (bounds[wanted] - masses[wanted] - uniforms).abs()
            ) > _NEAR
            wrong = int(((ids != wanted) & clear).sum())
            expect(
                wrong == 0, f"{wrong} of {len(ids)} ids are others than {kind or 'plain'} draws of a sampler that {way}"
            )


def check_logprobs_are_of_the_models_own_distribution(subject: Subject, seed: int) -> None:
    """Of the sampled token, its rank, and of the likeliest: of the logits as they came, whatever the temperature."""
    logits = _logits(seed)
    params = SamplingParams(temperature=1.7, logprobs=5, seed=0)
    scores = logits.double().log_softmax(0)
    for way in _WAYS:
        sampled = _step(subject, logits, params, way)
        ids, found = sampled.ids.cpu(), sampled.logprobs
        assert found is not None
        compare(found.own, scores[ids], _LOGPROB_ERROR, f"logprobs of the sampled tokens of a sampler that {way}")
        ranks = (scores[None] > scores[ids][:, None]).sum(1) + 1
        expect(torch.equal(found.rank.cpu(), ranks), f"ranks of the sampled tokens are others where the sampler {way}")
        top = scores.topk(5)
        top_ids, likeliest = found.top_ids[:, :5].cpu(), found.top[:, :5]
        expect(bool((top_ids == top.indices).all()), f"the likeliest tokens are others where the sampler {way}")
        compare(likeliest, top.values.expand(_SEQUENCES, -1), _LOGPROB_ERROR, "logprobs of the likeliest tokens")


def check_masks_forbid_ids(subject: Subject, seed: int) -> None:
    """Bit i of word w of a row's mask is id 32 * w + i; each row allows one id alone, whatever its logit."""
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.randperm(_VOCAB, generator=generator)[:_SEQUENCES]
    words = torch.zeros(_SEQUENCES, -(-_VOCAB // 32), dtype=torch.int64)
    words[torch.arange(_SEQUENCES), allowed // 32] = 1 << (allowed % 32)
    masks = words.to(torch.int32)  # bit 31 is the sign
    for way in _WAYS:
        sampled = _step(subject, _logits(seed), SamplingParams(temperature=1.0, seed=0), way, masks)
        wrong = int((sampled.ids.cpu() != allowed).sum())
        expect(
            wrong == 0, f"{wrong} of {_SEQUENCES} rows sampled an id that their mask forbids where the sampler {way}"
        )


def _step(subject: Subject, logits: Tensor, params: SamplingParams, way: Way, masks: Tensor | None = None) -> Sampled:
    """One step of all sequences."""
    device = subject.platform.device()
    sampler, slots = _started(subject, params, way)
    rows = slots.rows(np.arange(_SEQUENCES), np.full(_SEQUENCES, 1))
    given = logits.to(device).expand(_SEQUENCES, -1).contiguous()
    sampled = sampler.sample(given, rows, None if masks is None else masks.to(device))
    subject.platform.synchronize(device)
    return sampled


def _check_frequencies(subject: Subject, seed: int, params: SamplingParams) -> None:
    """Pearson's chi-square of what was drawn, with both ways to the thresholds."""
    logits = _logits(seed)
    masses = _masses(logits, params)
    filtered = params.top_k > 0 or params.top_p < 1  # only thresholds are found in two ways by who runs any size
    for way in _WAYS if filtered else (_WAITS, _PLANNED):
        ids, _ = _sampled(subject, logits, params, way, steps=_STEPS)
        counts = torch.bincount(ids, minlength=_VOCAB)
        what = f"{params} where the sampler {way}"
        forbidden = int(counts[masses == 0].sum())
        expect(forbidden == 0, f"{forbidden} of {len(ids)} ids are none that may be drawn: {what}")
        statistic, freedom = chi_square(counts.double(), masses * len(ids))
        limit = chi_square_limit(freedom)
        expect(statistic <= limit, f"chi-square of {freedom} degrees is {statistic:.1f}, at most {limit:.1f}: {what}")


def chi_square(counts: Tensor, expected: Tensor) -> tuple[float, int]:
    """The statistic and its degrees of freedom; tokens expected too rarely are counted as one."""
    often = expected >= _LEAST_EXPECTED
    counts = torch.cat((counts[often], counts[~often].sum()[None]))
    expected = torch.cat((expected[often], expected[~often].sum()[None]))
    kept = expected > 1e-9
    return float(((counts - expected)[kept] ** 2 / expected[kept].clamp(min=1)).sum()), max(int(kept.sum()) - 1, 1)


def chi_square_limit(freedom: int) -> float:
    """What the statistic exceeds once in three million times (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + _DEVIATIONS * math.sqrt(part)) ** 3


def _logits(seed: int) -> Tensor:
    """float32 `[vocab]`: a few likely tokens in random places, the rest with a thousandth of the mass together; all so
    large that their exponentials are infinite unless the highest is taken off first.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(_VOCAB, generator=generator) * 0.5 - 13.0
    logits[torch.randperm(_VOCAB, generator=generator)[:_LIKELY]] = torch.randn(_LIKELY, generator=generator) * 1.5
    return logits + 100.0


def _clear_logits(seed: int, params: SamplingParams) -> Tensor:
    """The first `_logits` of a seed's row where top-p's border is clear in float32: no sum of masses lies on p."""
    for attempt in range(_ATTEMPTS):
        logits = _logits(seed + 1000 * attempt)
        scaled = logits.double() / params.temperature
        likely = scaled.sort(descending=True).values[: params.top_k or None].softmax(0)
        if params.top_p == 1 or float((likely.cumsum(0) - params.top_p).abs().min()) > _NEAR:
            return logits
    raise AssertionError(f"all of {_ATTEMPTS} distributions have a border at {params.top_p}")


def _masses(logits: Tensor, params: SamplingParams) -> Tensor:
    """What the parameters define, float64 `[vocab]`: temperature, top-k, top-p of what is left, min-p."""
    scaled = logits.double() / params.temperature
    order = scaled.argsort(descending=True)
    kept = order[: params.top_k] if params.top_k > 0 else order
    likely = scaled[kept].softmax(0)
    kept = kept[likely.cumsum(0) - likely < params.top_p] if params.top_p < 1 else kept
    if params.min_p > 0:
        kept = kept[scaled[kept] >= scaled.max() + math.log(params.min_p)]
    return torch.zeros(_VOCAB, dtype=torch.float64).index_copy_(0, kept, scaled[kept].softmax(0))


def _sampled(
    subject: Subject, logits: Tensor, params: SamplingParams, way: Way, *, steps: int
) -> tuple[Tensor, Tensor]:
    """Ids and their uniform numbers of sequences with seeds of their own, over some steps, on the host."""
    device = subject.platform.device()
    sampler, slots = _started(subject, params, way)
    given = logits.to(device).expand(_SEQUENCES, -1).contiguous()
    ids, uniforms = [], []
    for step in range(steps):
        rows = slots.rows(np.arange(_SEQUENCES), np.full(_SEQUENCES, 1 + step))
        ids.append(subject.platform.fetch(sampler.sample(given, rows).ids)())
        assert isinstance(rows.random, RandomRows)
        uniforms.append(torch.from_numpy(rows.random.uniforms.copy()))
    subject.platform.synchronize(device)
    return torch.cat(ids), torch.cat(uniforms)


def _started(subject: Subject, params: SamplingParams, way: Way) -> tuple[Sampler | PlannedRows, SlotSampling]:
    """Every slot holds a sequence with these parameters, and with a seed of its own."""
    platform = subject.platform
    ops = resolve(platform.ops(), OpSpec(platform.capabilities().dtypes[0]))
    sampler: Sampler | PlannedRows
    if way == _PLANNED:
        sampler = PlannedRows(platform, _VOCAB, _SEQUENCES, ops)
    else:
        sampler = Sampler(_VOCAB, platform.device(), may_wait=way == _WAITS, ops=ops)
    slots = SlotSampling(_SEQUENCES, _VOCAB)
    for slot in range(_SEQUENCES):
        one = msgspec.structs.replace(params, seed=slot)
        start = Start(slot, one, frozenset(), prompt_len=1, tokens=np.array([1], np.int32).tobytes())
        sampler.start(start)
        slots.start(start)
    return sampler, slots
