"""The plugin's code without a Gaudi: on an emulated torch device of that name, and on one that forbids new sizes."""

from __future__ import annotations

import msgspec

from jackfield_hpu.platform import HpuPlatform
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.compiled_graphs import CompiledGraphs, Program
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.testing.emulated import EmulatedDevice
from jackfield_platforms.testing.strict import StrictDevice


class _Uncompiled(HpuPlatform):
    """Programs run as they are, into outputs that stay."""

    def graph_runner(self) -> GraphRunner:
        return CompiledGraphs(_as_it_is)


class HpuEmulated(EmulatedDevice, _Uncompiled):
    """Device type `hpu`, emulated on the CPU; torch.distributed has no backend for it."""

    name = "hpu-emulated"

    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(super().capabilities(), max_ranks=1)

    def describe(self) -> str:
        return "an emulated torch device called hpu"


class HpuStrict(StrictDevice, HpuPlatform):
    """The CPU, refused every size that was not captured; ranks talk as Gaudis do, over gloo."""

    name = "hpu-strict"

    def collectives(self) -> str:
        return "gloo"

    def describe(self) -> str:
        return "a strict device with Gaudi's sizes"


def _as_it_is(program: Program) -> Program:
    return program
