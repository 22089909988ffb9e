"""The plugins' platforms without a GPU: what they offer on the host, and what they say where they cannot be."""

from __future__ import annotations

import inspect

import pytest
import torch

from jackfield_attention.triton.backend import TritonAttention
from jackfield_cuda.plugin import platforms as cuda_platforms
from jackfield_gpu import interpreted_probe
from jackfield_gpu.interpreted import SWITCH
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.platform import ServingSpec
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.testing.conformance import platform_checks
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_rocm.plugin import platforms as rocm_platforms

MADE = {**cuda_platforms(), **rocm_platforms()}
INTERPRETED = ["cuda-interpreted", "rocm-interpreted"]
CHECKS = [name for name in dir(platform_checks) if name.startswith("check_")]


def test_the_plugins_hand_over_their_platforms_by_name():
    assert sorted(MADE) == ["cuda", "cuda-interpreted", "rocm", "rocm-interpreted"]
    assert [made.name for made in MADE.values()] == list(MADE)


@pytest.mark.parametrize("name", INTERPRETED)
@pytest.mark.parametrize("check", CHECKS)
def test_the_kit_s_checks_of_platforms_hold(check, name):
    function = getattr(platform_checks, check)
    seeds = {"seed": 0} if "seed" in inspect.signature(function).parameters else {}
    function(Subject(name, MADE[name](), ()), **seeds)


@pytest.mark.parametrize("name", INTERPRETED)
def test_kernels_are_those_of_the_gpu_and_sizes_are_free(name):
    platform = MADE[name]()
    assert platform.attention_backends() == (TritonAttention,)
    assert platform.ops().rms_norm[0].name == "triton"
    assert [op.name for op in platform.linear_ops()] == ["triton-weight-only"]
    assert type(platform.buckets(Limits(4, 64, 128))) is BucketPlan
    assert not platform.graph_runner().captures
    assert platform.check(ServingSpec("float32", "float32", 16, 128, 4, 64)) == []


@pytest.mark.parametrize("name", INTERPRETED)
def test_triton_must_be_told_before(name, monkeypatch):
    monkeypatch.delenv(SWITCH)
    with pytest.raises(RuntimeError, match=f"{name} needs {SWITCH}=1 before Triton is imported"):
        MADE[name]()


def test_a_launch_by_name_sets_what_triton_reads():
    assert dict(interpreted_probe.environment(LaunchOptions()).env) == {SWITCH: "1"}
    probe = interpreted_probe.probe()
    assert (probe.state, probe.by_name_only) == ("usable", True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "rocm"])
def test_without_a_gpu_torch_says_so(name):
    with pytest.raises((RuntimeError, AssertionError)):
        MADE[name]()
