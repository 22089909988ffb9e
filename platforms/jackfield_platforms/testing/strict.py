"""An emulated device of static shapes: whatever a compiled device cannot do is an error here, on any laptop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.buckets.ladder import PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.capabilities import Capabilities, SchedulingRules
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.platform import Memory, Platform
from jackfield_platforms.testing.strict_graphs import StrictGraphRunner

_BYTES = 2 << 30  # that it says it has
_POISON = -(2**31) + 1


class LateCopy:
    """A copy on its way to the host: `host` holds poison until the copy is waited for."""

    def __init__(self, tensor: Tensor) -> None:
        self._computed = tensor.clone()
        self.host = torch.full_like(tensor, float("nan") if tensor.is_floating_point() else _POISON)

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        return self.host.copy_(self._computed)


class StrictDevice(Platform):
    """What a platform of static shapes inherits first, before the vendor's, to run on the CPU and be refused every size
    that was not captured; see `StrictGraphRunner`.

    What it computed reaches the host late: a fetched tensor holds poison until its wait is over.
    """

    device_type = "cpu"

    def __init__(self) -> None:
        super().__init__()
        self.graphs = StrictGraphRunner()

    def device(self, rank: int = 0) -> torch.device:
        return torch.device("cpu")

    def memory(self, device: torch.device) -> Memory:
        return Memory(total=_BYTES, free=_BYTES, limit="emulated")

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        return None

    def synchronize(self, device: torch.device) -> None:
        """Nothing is under way on the CPU; the delay is in `fetch`."""

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        return LateCopy(tensor)

    def num_compilations(self) -> int | None:
        return None

    def graph_runner(self) -> GraphRunner:
        return self.graphs


class StrictPlatform(StrictDevice):
    """The shared attention backends on a strict device."""

    name = "strict"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            dtypes=("float32", "bfloat16"),
            kv_dtypes=("float32", "bfloat16"),
            asynchronous=True,
            static_shapes=True,
            scheduling=SchedulingRules(max_in_flight=2),
        )

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return ()  # the shared ones come through the hook `attention_backends`

    def buckets(self, limits: Limits) -> BucketPlan:
        blocks = PowersOfTwo(low=8)
        decode = PhaseRule(phase="decode", rows=PowersOfTwo(), blocks=blocks)
        mixed = PhaseRule(phase="mixed", tokens=PowersOfTwo(low=16), blocks=blocks)
        return StaticBuckets.of_rules((decode, mixed), limits, on_miss="error")

    def describe(self) -> str:
        return "an emulated device of static shapes"


class CompiledStrictPlatform(StrictPlatform):
    """The same, and what is captured must go through `torch.compile(fullgraph=True, dynamic=False)`."""

    name = "strict-compiled"

    def __init__(self) -> None:
        super().__init__()
        self.graphs = StrictGraphRunner(compiles=True)
