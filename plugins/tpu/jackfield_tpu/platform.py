"""TPUs as a platform, and two stand-ins that run this plugin's code where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.platform import ServingSpec
from jackfield_platforms.testing.strict import StrictDevice
from jackfield_tpu.buckets import padding_gap, tpu_buckets
from jackfield_tpu.ragged_attention import RaggedPagedAttention, off_the_chip
from jackfield_tpu.reference_attention import RaggedPagedReference
from jackfield_xla.host import XlaOnHost
from jackfield_xla.platform import XlaPlatform

DTYPES = ("bfloat16", "float32")
TABLE_BYTES = 512 << 10
"""Of a block table, which the kernel keeps in scalar memory: half of the 1 MiB that chips up to v6e have."""


class TpuPlatform(XlaPlatform):
    """TPUs through torch-xla. What is launched runs behind the host, in order."""

    name = "tpu"
    runtime = "TPU"

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=DTYPES, kv_dtypes=DTYPES, asynchronous=True, static_shapes=True, max_ranks=1)

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return (RaggedPagedAttention, FlatBlockAttention)

    def buckets(self, limits: Limits) -> BucketPlan:
        return tpu_buckets(limits, padding_gap())

    def check(self, serving: ServingSpec) -> list[str]:
        return [] if off_the_chip() else table_objections(serving)

    def describe(self) -> str:
        from torch_xla import runtime

        return f"{runtime.global_runtime_device_count()} TPU devices through torch-xla"


class TpuOnHost(XlaOnHost, TpuPlatform):
    """The same through torch-xla on the host's processor, and beside it the definition of the kernel."""

    name = "tpu-cpu"

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return (*super().attention_backends(), RaggedPagedReference)

    def describe(self) -> str:
        return "what a TPU is given, through torch-xla on the host's processor"


class TpuStrict(StrictDevice, TpuPlatform):
    """The same without torch-xla, on a device that refuses every size that was not captured."""

    name = "tpu-strict"

    def describe(self) -> str:
        return "what a TPU is given, on an emulated device of static shapes"


def table_objections(serving: ServingSpec) -> list[str]:
    """Why a block table is too large for the kernel, and what to change."""
    blocks = -(-serving.max_model_len // serving.block_size)
    taken = 4 * serving.max_num_seqs * blocks
    if taken <= TABLE_BYTES:
        return []
    return [
        f"{serving.max_num_seqs} rows of {blocks} blocks are a table of {taken >> 10} KiB, and a TPU's kernel keeps at "
        f"most {TABLE_BYTES >> 10} KiB of it; take larger blocks (--block-size), fewer rows (--max-num-seqs) or a "
        "shorter --max-model-len"
    ]
