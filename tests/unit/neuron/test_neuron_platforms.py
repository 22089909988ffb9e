"""Neuron's platforms without Neuron: what they offer, and some of `jackfield conformance` on each."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from jackfield_attention.gathered import GatheredAttention
from jackfield_neuron import emulated_plugin, plugin
from jackfield_neuron.nki_attention import NkiAttention
from jackfield_neuron.strict import NeuronStrict
from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.testing.conformance import bucket_checks, graph_checks, platform_checks
from jackfield_platforms.testing.conformance.subject import Subject

CHECKS = [getattr(platform_checks, name) for name in dir(platform_checks) if name.startswith("check_")]
BUCKETS = [getattr(bucket_checks, name) for name in dir(bucket_checks) if name.startswith("check_")]


def seeded(check):
    return {"seed": 0} if "seed" in inspect.signature(check).parameters else {}


def test_the_plugin_hands_over_its_platforms_by_name():
    made = {**plugin.platforms(), **emulated_plugin.platforms()}
    assert list(made) == ["neuron", "neuron-cpu", "neuron-strict", "neuron-emulated"]
    assert [platform.name for platform in made.values()] == list(made)
    assert {made[name].device_type for name in ("neuron", "neuron-cpu")} == {"xla"}
    assert made["neuron-emulated"].device_type == "neuron"


@pytest.mark.parametrize("check", [*CHECKS, *BUCKETS], ids=lambda check: check.__name__)
def test_the_kit_s_checks_of_platforms_and_sizes_hold(check):
    check(Subject("neuron-strict", NeuronStrict(), ()), **seeded(check))


def test_a_launch_is_prompts_or_decode_rows_and_its_sizes_are_compiled():
    caps = NeuronStrict().capabilities()
    assert caps.static_shapes
    assert caps.asynchronous
    rules = caps.scheduling
    assert (rules.mixed, rules.chunked, rules.prefix_reuse) == (False, True, True)
    assert (rules.max_prefills, rules.chunk_multiple, rules.max_in_flight) == (1, 128, 2)
    assert isinstance(NeuronStrict().buckets(Limits(4, 256, 512)), StaticBuckets)
    assert NeuronStrict().attention_backends() == (NkiAttention, GatheredAttention)


def test_programs_of_the_strict_device_are_checked():
    for _, case in graph_checks.capturing(Subject("neuron-strict", NeuronStrict(), ())):
        graph_checks.check_a_replay_equals_eager_on_new_contents(case, 0)


@pytest.mark.parametrize("name", ["neuron-strict", "neuron-emulated"])
def test_the_kit_passes_on_its_platforms_in_small(name):
    """A process of its own: one can emulate one device."""
    chosen = "(check_decode or check_padding or one_plan or outputs_keep or probe) and not bfloat16 and not float16"
    words = [sys.executable, "-m", "jackfield", "conformance", name, "--seeds", "1", "-k", chosen]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = int(done.stdout.strip().splitlines()[-1].split()[0])
    assert passed > 40
