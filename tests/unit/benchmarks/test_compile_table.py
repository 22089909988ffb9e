"""The page of what compilers made of the GPU kernels."""

from __future__ import annotations

import importlib.util

import pytest
from compile_table import KINDS, kind_of, table

FOUND = [
    {"target": "sm_90", "kernel": "attention_a", "registers": 100, "spills": 0, "shared": 2048},
    {"target": "sm_90", "kernel": "attention_b", "registers": 255, "spills": 96, "shared": 1024},
    {"target": "sm_90", "kernel": "write_c", "registers": 40, "spills": -1, "shared": 0},
    {"target": "gfx942", "kernel": "latent_a", "error": "OutOfResources: shared memory"},
]


def test_every_gpu_and_kind_has_a_line_and_every_gpu_a_sum() -> None:
    assert table(FOUND).splitlines() == [
        "| sm_90 | attention, over a cache of any dtype | 3 | 0 | 100 / 255 | 2.0 KiB | 1 | 96 |",
        "| **sm_90** | **all** | 3 | 0 | 100 / 255 | 2.0 KiB | 1 | 96 |",
        "| gfx942 | latent attention | 0 | 1 |  |  |  |  |",
        "| **gfx942** | **all** | 0 | 1 |  |  |  |  |",
    ]


def test_every_kernel_that_is_compiled_is_of_a_kind() -> None:
    pytest.importorskip("triton")  # no wheel for every system
    gpu_compile = importlib.import_module("gpu_compile")
    kinds = {kind_of(one.name) for arch in gpu_compile.TARGETS for one in gpu_compile.listed(arch)}
    assert kinds == set(KINDS)


def test_a_kernel_of_no_kind_is_an_error() -> None:
    with pytest.raises(KeyError, match="unheard"):
        kind_of("unheard_of")
