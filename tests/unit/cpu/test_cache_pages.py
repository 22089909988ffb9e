"""A cache whose pages are there from the start, and one whose pages come with its tokens."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from jackfield_cpu.cache_pages import SWITCH, is_resident
from jackfield_cpu.kernels import Kernels, kernels
from jackfield_cpu.native_attention import NativeAttention
from jackfield_cpu.platform import CpuPlatform
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Paged
from jackfield_platforms.ops import OpSpec, OpTable, resolve

BLOCKS, BLOCK_BYTES = 4_000, 2 * 16 * 8 * 64 * 2  # 65 MB each of k and v: the C library keeps no such block for later
NEED = AttentionNeed(Paged(kv_heads=8, k_dim=64, v_dim=64, dtype="bfloat16"), 8, scale=0.1, query_dtype="bfloat16")
needs_kernels = pytest.mark.skipif(not isinstance(kernels(), Kernels), reason="built without kernels")
needs_linux = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="other systems promise pages otherwise")


def growth() -> int:
    """How many bytes more are resident with a cache of 131 MB that nobody wrote to."""
    ops = resolve(OpTable(), OpSpec("bfloat16"))
    backend = NativeAttention(NEED, 16, device=torch.device("cpu"), ops=ops)
    before = psutil.Process().memory_info().rss
    cache = backend.allocate(BLOCKS)
    after = psutil.Process().memory_info().rss
    assert cache.k.nbytes + cache.v.nbytes >= BLOCKS * BLOCK_BYTES
    return int(after - before)


@needs_kernels
@needs_linux
def test_pages_come_with_the_first_token_unless_asked_for(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    assert growth() < BLOCKS * BLOCK_BYTES // 4
    monkeypatch.setenv(SWITCH, "resident")
    assert growth() > BLOCKS * BLOCK_BYTES * 3 // 4


@needs_kernels
def test_the_start_says_that_the_cache_is_resident(monkeypatch):
    monkeypatch.setenv(SWITCH, "resident")
    assert CpuPlatform().describe().endswith(" kernels, a KV cache of native attention resident")
    monkeypatch.setenv(SWITCH, "lazy")
    assert "resident" not in CpuPlatform().describe()


def test_without_kernels_there_is_no_such_cache(monkeypatch):
    monkeypatch.setattr("jackfield_cpu.platform.kernels", lambda: "built without a compiler")
    monkeypatch.setenv(SWITCH, "resident")
    with pytest.raises(ValueError, match=r"there is none \(built without a compiler\); unset it"):
        CpuPlatform()
    monkeypatch.delenv(SWITCH)
    CpuPlatform()


def test_anything_else_is_refused_before_a_weight_is_read(monkeypatch):
    monkeypatch.setenv(SWITCH, "hugetlb")
    with pytest.raises(ValueError, match="JACKFIELD_CPU_KV_CACHE must be 'lazy', 'resident' or unset; got 'hugetlb'"):
        CpuPlatform()
    monkeypatch.setenv(SWITCH, "")
    assert not is_resident()
