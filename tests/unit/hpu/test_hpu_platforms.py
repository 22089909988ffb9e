"""Gaudi's platforms without a Gaudi: what they offer, and some of `jackfield conformance` on each."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from jackfield_hpu.emulated import HpuStrict
from jackfield_hpu.flat_attention import FlatAttention
from jackfield_hpu.fused_attention import FusedAttention
from jackfield_hpu.plugin import platforms
from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.testing.conformance import graph_checks, platform_checks, rank_checks
from jackfield_platforms.testing.conformance.subject import Subject

STRICT = Subject("hpu-strict", HpuStrict(), ())
CHECKS = [getattr(platform_checks, name) for name in dir(platform_checks) if name.startswith("check_")]


def test_the_plugin_hands_over_its_platforms_by_name():
    assert {name: made.name for name, made in platforms().items()} == {
        name: name for name in ("hpu", "hpu-emulated", "hpu-strict")
    }


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_of_platforms_hold(check):
    check(STRICT, **({"seed": 0} if "seed" in inspect.signature(check).parameters else {}))


def test_steps_may_be_mixed_and_prompts_cut_since_launches_are_placed():
    caps = HpuStrict().capabilities()
    assert caps.static_shapes
    assert caps.asynchronous
    assert (caps.scheduling.mixed, caps.scheduling.chunked, caps.scheduling.prefix_reuse) == (True, True, True)
    assert "float8_e4m3fn" in caps.kv_dtypes
    assert HpuStrict().attention_backends() == (FusedAttention, FlatAttention)
    assert HpuStrict().linear_ops() == ()
    assert isinstance(HpuStrict().buckets(Limits(4, 256, 512)), StaticBuckets)


def test_programs_of_the_strict_device_are_checked():
    for _, case in graph_checks.capturing(STRICT):
        graph_checks.check_a_replay_equals_eager_on_new_contents(case, 0)


def test_two_ranks_sum_gather_and_send_through_one_group(tmp_path):
    """The communicator of HCCL, over gloo, in processes of their own."""
    rank_checks.check_two_ranks_agree(STRICT, tmp_path)


@pytest.mark.parametrize("name", ["hpu-strict", "hpu-emulated"])
def test_the_kit_passes_on_its_platforms_in_small(name):
    """A process of its own: one can emulate one device."""
    chosen = "(check_decode or check_padding or one_plan or outputs_keep or probe) and float32 and not float32_on"
    words = [sys.executable, "-m", "jackfield", "conformance", name, "--seeds", "1", "-k", chosen]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = int(done.stdout.strip().splitlines()[-1].split()[0])
    assert passed > 25
