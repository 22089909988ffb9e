"""What Neuron devices serve with, whatever they are reached through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jackfield_attention.gathered import GatheredAttention
from jackfield_neuron.buckets import SMALLEST, neuron_buckets
from jackfield_neuron.nki_attention import NkiAttention
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities, SchedulingRules
from jackfield_platforms.platform import Platform

DTYPES = ("bfloat16", "float16", "float32")
RULES = SchedulingRules(mixed=False, max_prefills=1, chunk_multiple=SMALLEST, max_in_flight=2)
"""A launch is prompts or decode rows; a prompt is a launch of its own, and its chunks fill the programs' rows."""


class NeuronPlatform(Platform):
    """Programs of static shapes. How they are compiled, and what a device is, a subclass says."""

    device_type = "neuron"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            dtypes=DTYPES, kv_dtypes=DTYPES, asynchronous=True, static_shapes=True, max_ranks=1, scheduling=RULES
        )

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return (NkiAttention, GatheredAttention)

    def buckets(self, limits: Limits) -> BucketPlan:
        return neuron_buckets(limits)
