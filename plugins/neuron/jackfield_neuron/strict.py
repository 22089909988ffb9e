"""Neuron's sizes on a device that forbids all others."""

from __future__ import annotations

from jackfield_neuron.platform import NeuronPlatform
from jackfield_platforms.testing.strict import StrictDevice


class NeuronStrict(StrictDevice, NeuronPlatform):
    """The CPU, refused every size that was not captured."""

    name = "neuron-strict"

    def describe(self) -> str:
        return "a strict device with Neuron's sizes"
