"""The machine's floor, for people and for programs."""

from __future__ import annotations

import json

import pytest
from bandwidth import KERNELS, Kernel
from floor import as_json, bandwidth_table, layer_rate, matrix_table
from matrix_peak import PRODUCTS, Peaks, Rate, Refusal

PEAKS = Peaks(
    (
        *(Rate("A", "float32", product, 512, 3e11) for product in PRODUCTS),
        *(Rate("A", "float32", product, 2048, 2e11) for product in PRODUCTS),
        *(Rate("B", "bfloat16", product, 2048, 1e11) for product in PRODUCTS),
        *(Rate("C", "int8", product, 2048, 9e11) for product in PRODUCTS),
    ),
    (Refusal("D", "int8", "no such instruction"),),
)


def test_there_are_kernels_of_every_kind() -> None:
    assert len(KERNELS) == len(set(KERNELS)) >= 3
    assert {kernel.huge for kernel in KERNELS} == {True, False}
    assert {kernel.ahead > 0 for kernel in KERNELS} == {True, False}
    assert len({kernel.streams for kernel in KERNELS}) >= 3


def test_the_fastest_kernel_comes_first() -> None:
    first, second = bandwidth_table({Kernel(1, 0, False): 4e10, Kernel(4, 1024, True): 5e10}).splitlines()
    assert first.split("   ")[0] == "4 streams, prefetch 1024, huge pages"
    assert "50.0 GB/s" in first
    assert "1 stream, plain pages" in second


def test_the_best_of_a_format_is_marked_and_refusals_are_told() -> None:
    head, ours, *_, refused = matrix_table(PEAKS).splitlines()
    assert "whole layer" in head
    assert "300.0" in ours
    assert "200.0" in ours
    assert ours.endswith("*")
    assert refused.endswith("not here: no such instruction")


def test_a_whole_layer_is_measured_at_the_most_rows() -> None:
    assert layer_rate(PEAKS, "A", "float32") == pytest.approx(2e11)


def test_json_holds_the_best_and_all() -> None:
    result = json.loads(json.dumps(as_json({Kernel(2, 0, True): 5e10, Kernel(1, 0, True): 4e10}, PEAKS)))
    assert result["bandwidth"]["best"] == 5e10
    assert result["bandwidth"]["kernel"] == "2 streams, huge pages"
    assert result["matrix"]["best"]["bfloat16"]["by"] == "B"
    assert len(result["matrix"]["rates"]) == len(PEAKS.rates)
