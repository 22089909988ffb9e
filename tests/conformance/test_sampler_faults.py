"""The sampler's checks pass on the platforms that are here, and each finds a fault of the sampler that is planted."""

from __future__ import annotations

import fault_platform
import pytest
import torch

from jackfield.conformance import sampler_checks
from jackfield.runner import planned_sampler
from jackfield.runner import sampler as sampling
from jackfield_platforms import reference
from jackfield_platforms.testing.conformance.run import KitOptions, check
from jackfield_platforms.testing.conformance.subject import load_subject

CHECKS = {name for name in vars(sampler_checks) if name.startswith("check_")}
DRAW, CANDIDATES, THRESHOLD = sampling.draw, sampling.from_candidates, reference.sampling_threshold

FILL = planned_sampler.PlannedSampler.fill
LOGPROBS, UNPACK = sampling.logprobs, sampling.unpack


def run(subject, seeds=1, match="frequencies or ids_follow or logprobs or masks"):
    options = KitOptions(seeds=seeds, match=match, modules=(sampler_checks.__file__,))
    return check(subject, options)


def hotter(logits, uniforms):
    return DRAW(logits / 1.5, uniforms)


def never_the_last(logits, uniforms):
    """The unlikeliest of what is kept is never drawn."""
    kept = logits.masked_fill(logits.isinf(), torch.inf)
    return DRAW(logits.masked_fill(kept == kept.amin(-1, keepdim=True), -torch.inf), uniforms)


def from_the_other_end(logits, uniforms):
    """Right in every frequency, and other ids than another device's."""
    return logits.shape[-1] - 1 - DRAW(logits.flip(-1), uniforms)


def numbers_of_its_own(logits, uniforms):
    return DRAW(logits, torch.rand(uniforms.shape, generator=torch.Generator().manual_seed(int(uniforms[0] * 1e6))))


def one_more(function):
    return lambda logits, top_k, top_p: function(logits, top_k + 1, top_p)


def mass_of_the_whole(logits, top_k, top_p):
    """Top-p looks at what top-k did not leave, too."""
    whole, enough = CANDIDATES(logits, torch.full_like(top_k, logits.shape[-1]), top_p)
    return torch.maximum(whole, CANDIDATES(logits, top_k, torch.ones_like(top_p))[0]), enough


def smaller_p(logits, top_k, top_p):
    return THRESHOLD(logits, top_k, top_p * 0.9)


def min_p_of_all(self, logits, random):
    """min_p as a probability of its own, not relative to the likeliest."""
    logits = logits / self._put(random.temperature).unsqueeze(-1)
    if random.filtered:
        logits = logits.masked_fill(
            logits < self._threshold(logits, self._put(random.top_k), self._put(random.top_p)), -torch.inf
        )
    floor = self._put(random.min_p).unsqueeze(-1)
    return DRAW(
        logits.masked_fill(logits.softmax(-1) < floor, -torch.inf) if floor.any() else logits,
        self._put(random.uniforms),
    )


def rows_in_reverse(self, rows, size, masks):
    """Each row is sampled with the numbers of another."""
    inputs, variant = FILL(self, rows, size, masks)
    return inputs._replace(numbers=inputs.numbers.flip(1)), variant


FAULTS = {
    "hotter": (sampling, "draw", hotter, {"check_frequencies_follow_the_temperature"}),
    "the last of the kept is never drawn": (
        sampling,
        "draw",
        never_the_last,
        {
            "check_frequencies_follow_top_k",
            "check_frequencies_follow_top_p",
            "check_ids_follow_from_the_uniform_numbers",
        },
    ),
    "from the other end": (sampling, "draw", from_the_other_end, {"check_ids_follow_from_the_uniform_numbers"}),
    "numbers of its own": (sampling, "draw", numbers_of_its_own, {"check_ids_follow_from_the_uniform_numbers"}),
    "one more candidate": (sampling, "from_candidates", one_more(CANDIDATES), {"check_frequencies_follow_top_k"}),
    "one more of whole rows": (
        reference,
        "sampling_threshold",
        one_more(THRESHOLD),
        {"check_frequencies_follow_top_k"},
    ),
    "top-p of the whole mass": (sampling, "from_candidates", mass_of_the_whole, {"check_frequencies_follow_top_p"}),
    "a smaller p of whole rows": (reference, "sampling_threshold", smaller_p, {"check_frequencies_follow_top_p"}),
    "min-p of all": (sampling.Sampler, "_draw", min_p_of_all, {"check_frequencies_follow_min_p"}),
    "logprobs of something hotter": (
        sampling,
        "logprobs",
        lambda logits, ids, count: LOGPROBS(logits / 1.7, ids, count),
        {"check_logprobs_are_of_the_models_own_distribution"},
    ),
    "masks in the order of the other end": (
        sampling,
        "unpack",
        lambda masks, vocab: UNPACK(masks, vocab).flip(-1),
        {"check_masks_forbid_ids"},
    ),
    "numbers of another row at fixed sizes": (
        planned_sampler.PlannedSampler,
        "fill",
        rows_in_reverse,
        {"check_ids_follow_from_the_uniform_numbers"},
    ),
    "few halvings": (reference, "_NUM_HALVINGS", 3, {"check_frequencies_follow_top_k"}),
}


@pytest.mark.parametrize("platform", ["cpu", "strict", "emulated"])
def test_the_sampler_conforms(platform):
    report = run(load_subject(platform))
    assert report.failed_checks() == set()
    assert report.count("passed") == len(CHECKS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault, monkeypatch):
    where, name, wrong, expected = FAULTS[fault]
    monkeypatch.setattr(where, name, wrong)
    report = run(fault_platform.subject(), match=" or ".join(sorted(expected)))
    assert report.failed_checks() == expected


def test_what_is_right_in_its_frequencies_is_found_by_its_ids_alone(monkeypatch):
    monkeypatch.setattr(sampling, "draw", from_the_other_end)
    assert run(fault_platform.subject()).failed_checks() == {"check_ids_follow_from_the_uniform_numbers"}


def test_every_check_catches_something():
    assert set().union(*(expected for *_, expected in FAULTS.values())) == CHECKS
