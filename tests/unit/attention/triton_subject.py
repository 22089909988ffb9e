"""The kit's subject for the Triton backend: kernels interpreted over host tensors, in buckets that bound everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from jackfield_attention.triton.backend import TritonAttention
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.graph import EagerRunner, GraphRunner
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform


class Interpreted(StrictPlatform):
    """Plans the strict device's sizes and runs them as they are: what Triton launches is no operation of torch's."""

    name = "interpreted"

    def __init__(self, dtypes: Sequence[str], kv_dtypes: Sequence[str]) -> None:
        super().__init__()
        self._dtypes, self._kv_dtypes = tuple(dtypes), tuple(kv_dtypes)

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=self._dtypes, kv_dtypes=self._kv_dtypes)

    def device(self, rank: int = 0) -> torch.device:
        return torch.device("cpu")

    def graph_runner(self) -> GraphRunner:
        return EagerRunner()


def subject(
    dtypes: Sequence[str] = ("float32",),
    kv_dtypes: Sequence[str] = ("float32",),
    backend: type[AttentionBackend[Any]] = TritonAttention,
) -> Subject:
    """With few block sizes, since interpreting takes its time."""
    quick = type(backend.__name__, (backend,), {"block_sizes": (16, 24)})
    return Subject("interpreted", Interpreted(dtypes, kv_dtypes), (quick,))
