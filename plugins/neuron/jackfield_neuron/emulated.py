"""Neuron's own code on an emulated torch device of that name."""

from __future__ import annotations

from jackfield_neuron.platform import NeuronPlatform
from jackfield_platforms.compiled_graphs import CompiledGraphs, Program
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.testing.emulated import EmulatedDevice


class _Uncompiled(NeuronPlatform):
    """Programs run as they are, into outputs that stay."""

    def graph_runner(self) -> GraphRunner:
        return CompiledGraphs(_as_it_is)

    def describe(self) -> str:
        return "an emulated torch device called neuron"


class NeuronEmulated(EmulatedDevice, _Uncompiled):
    """Device type `neuron`, emulated on the CPU."""

    name = "neuron-emulated"


def _as_it_is(program: Program) -> Program:
    return program
