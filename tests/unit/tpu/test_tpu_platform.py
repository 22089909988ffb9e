"""The TPU platform and what stands in for it."""

from __future__ import annotations

import pytest

from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Paged
from jackfield_platforms.platform import ServingSpec
from jackfield_tpu import platform
from jackfield_tpu.platform import TpuOnHost, TpuPlatform, TpuStrict
from jackfield_tpu.plugin import platforms

NEED = AttentionNeed(Paged(2, 64, 64, "float32"), 4, 0.1)


def serving(**changes):
    sizes = {"block_size": 128, "max_model_len": 32768, "max_num_seqs": 256, "max_num_batched_tokens": 8192}
    return ServingSpec(dtype="bfloat16", kv_dtype="bfloat16", **{**sizes, **changes})


def test_names_are_those_of_the_entry_points():
    assert set(platforms()) == {"tpu", "tpu-cpu", "tpu-strict"}


def test_the_kernel_comes_first_and_the_flat_form_serves_what_it_refuses(monkeypatch):
    names = [backend.name for backend in TpuPlatform().attention_backends()]
    assert names == ["ragged-paged", "flat-blocks"]
    assert [backend.name for backend in TpuOnHost().attention_backends()] == [*names, "ragged-paged-reference"]
    assert [backend.objection(NEED) is None for backend in TpuStrict().attention_backends()] == [False, True]


def test_the_stand_ins_have_the_platform_s_capabilities_and_sizes():
    for stand_in in (TpuOnHost(), TpuStrict()):
        capabilities = stand_in.capabilities()
        assert capabilities.static_shapes
        assert capabilities.dtypes == TpuPlatform().capabilities().dtypes
    assert TpuStrict().device().type == "cpu"


@pytest.mark.parametrize("changes", [{}, {"block_size": 16, "max_num_seqs": 64}, {"block_size": 64}])
def test_a_table_that_fits_scalar_memory_is_served(monkeypatch, changes):
    monkeypatch.setattr(platform, "off_the_chip", lambda: None)
    assert TpuPlatform().check(serving(**changes)) == []


def test_a_table_that_does_not_fit_is_an_objection_that_says_what_to_change(monkeypatch):
    monkeypatch.setattr(platform, "off_the_chip", lambda: None)
    (objection,) = TpuPlatform().check(serving(block_size=16))
    assert "256 rows of 2048 blocks are a table of 2048 KiB" in objection
    assert "--block-size" in objection


def test_where_the_kernel_does_not_serve_its_table_does_not_matter():
    assert TpuStrict().check(serving(block_size=16)) == []
