"""The hooks of the Neuron plugin."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_neuron.strict import NeuronStrict
from jackfield_neuron.xla_neuron import NeuronOnHost, XlaNeuron
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """The device, and what its code is tried on without one."""
    return {platform.name: platform for platform in (XlaNeuron, NeuronOnHost, NeuronStrict)}
