"""Mechanical faults of the reference: a sample of what `make mutants` plants, and the table that it wrote."""

from __future__ import annotations

import re

import mutants as planting
import pytest
from mutation import mutants, planted

from jackfield_platforms import reference

SAMPLE = {  # module: every which mutant
    "jackfield_platforms.reference": 16,
    "jackfield_platforms.dequant_linear": 13,
    "jackfield_platforms.buckets.bucket_table": 5,
}


def sampled():
    for module, step in SAMPLE.items():
        family = next(family for family in planting.FAMILIES if module in family.modules)
        for mutant in mutants(module)[::step]:
            yield pytest.param(mutant, family, id=mutant.name)


@pytest.mark.parametrize(("mutant", "family"), list(sampled()))
def test_a_mutant_is_caught_or_explained(mutant, family, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x")
    caught = planting.tried(mutant, family).caught
    assert caught or planting.explanation(mutant)


def test_a_mutant_is_planted_for_everybody_and_taken_back():
    mutant = next(one for one in mutants(reference.__name__) if one.function == "silu_mul")
    code = reference.silu_mul.__code__
    with planted(mutant):
        assert reference.silu_mul.__code__ is not code
    assert reference.silu_mul.__code__ is code


def test_the_table_leaves_no_survivor_unexplained():
    said = planting.PAGE.read_text(encoding="utf-8")
    planted_, caught, survived = map(int, re.search(r"(\d+) mutants, (\d+) caught, (\d+) survived", said).groups())
    assert planted_ >= 40
    assert planted_ == caught + survived
    assert caught >= 60
    assert "a check is missing" not in said


@pytest.mark.long
@pytest.mark.parametrize("family", planting.FAMILIES, ids=lambda family: family.modules[0])
def test_every_mutant_is_caught_or_explained(family, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x")
    rows = [planting.tried(mutant, family) for mutant in planting.chosen(family)]
    assert [row for row in rows if not row.caught and row.reason is None] == []
