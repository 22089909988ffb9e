"""What the emulated device brings, apart from the others: it needs a torch that the device itself does not have."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_neuron.emulated import NeuronEmulated
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """The one platform."""
    return {NeuronEmulated.name: NeuronEmulated}
