"""A sound platform of static shapes in float32 alone, for one part of it to be replaced by a faulty one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform


class Sound(StrictPlatform):
    """The strict device with parts that can be given."""

    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__()
        self.parts = parts

    def _part(self, name: str, default: Any) -> Any:
        return self.parts.get(name, default)

    def capabilities(self) -> Capabilities:
        sound = Capabilities(dtypes=("float32",), kv_dtypes=("float32",), asynchronous=True, static_shapes=True)
        return self._part("capabilities", sound)

    def buckets(self, limits: Limits) -> BucketPlan:
        return self._part("buckets", super().buckets)(limits)

    def graph_runner(self) -> Any:
        return self._part("graph_runner", self.graphs)

    def ops(self) -> OpTable:
        return self._part("ops", OpTable())

    def fuse(self, spec: Any) -> Any:
        return self._part("fuse", super().fuse)(spec)

    def experts(self, spec: Any) -> Any:
        return self._part("experts", super().experts)(spec)

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        return self._part("linear_ops", ())

    def memory(self, device: Any) -> Any:
        return self._part("memory", super().memory(device))

    def watch_memory(self, device: Any) -> Any:
        return self._part("watch_memory", super().watch_memory)(device)

    def fetch(self, tensor: Any) -> Any:
        return self._part("fetch", super().fetch)(tensor)

    def communicator(self, rank: int = 0, size: int = 1) -> Any:
        return self._part("communicator", super().communicator(rank, size))

    def describe(self) -> str:
        return self._part("describe", super().describe())


def subject(*, backend: type[Any] = FlatBlockAttention, probe: str | None = None, **parts: Any) -> Subject:
    """The sound platform with some parts replaced, each by its method's name."""
    quick = type(backend.__name__, (backend,), {"block_sizes": (16,)})
    return Subject("strict", Sound(parts), (quick,), probe)
