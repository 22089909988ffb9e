"""Which NeuronCores a process may take: NEURON_RT_VISIBLE_CORES. Imports no torch.

AWS Neuron documentation, "Neuron Runtime configuration": a core that one process has taken is no other's; the variable
holds cores and ranges of them, such as `0-3` or `0,2,4-7`.
"""

from __future__ import annotations

from collections.abc import Mapping

VISIBLE = "NEURON_RT_VISIBLE_CORES"


class CoresError(ValueError):
    """The variable cannot be read. The message quotes it."""


def visible_cores(environ: Mapping[str, str], count: int | None = None) -> tuple[int, ...]:
    """The cores that the user leaves to us, in order; without the variable the first `count`, None: not known."""
    text = environ.get(VISIBLE, "").strip()
    if not text:
        return tuple(range(count or 0))
    cores: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdigit() or (dash and not last.isdigit()):
            raise CoresError(f"{VISIBLE}={text} is no list of cores; wanted something like 0-3 or 0,2,4-7")
        cores.extend(range(int(first), int(last or first) + 1))
    if len(set(cores)) != len(cores) or not cores:
        raise CoresError(f"{VISIBLE}={text} names a core twice, or none")
    missing = [core for core in cores if count is not None and core >= count]
    if missing:
        raise CoresError(f"{VISIBLE}={text} names core {missing[0]}; this machine has {count}, counted from 0")
    return tuple(cores)
