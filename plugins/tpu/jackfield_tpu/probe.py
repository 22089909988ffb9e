"""Whether there are TPUs, asked before torch is imported."""

from __future__ import annotations

from jackfield_platforms.probe import Launch, LaunchOptions, Probe
from jackfield_tpu.chips import Chips, find_chips
from jackfield_tpu.software import Software, installed

API_VERSION = (0, 1)
SCORE = 100


def probe() -> Probe:
    """The chips that this process may open."""
    return judge(find_chips(), installed())


def judge(chips: Chips, software: Software) -> Probe:
    """The answer, from what the machine has and what is installed."""
    if not chips.on_bus and not chips.files:
        return Probe("absent", "no TPU: none on the PCI bus, no /dev/accel0")
    if not chips.files:
        return Probe(
            "unusable",
            f"{chips.describe()} on the PCI bus, but neither /dev/accel* nor /dev/vfio/*; a container must be given "
            "them (docker run --privileged)",
        )
    closed = chips.closed()
    if closed:
        return Probe("unusable", f"{chips.describe()}; no permission on {', '.join(closed)}")
    reason = software.lacks()
    if reason is not None:
        return Probe("unusable", f"{chips.describe()}; {reason}")
    return Probe("usable", f"{chips.describe()}, {software.describe()}", devices=chips.count, score=SCORE)


def environment(options: LaunchOptions) -> Launch:
    """The runtime reads this once, when the first device is asked for (PyTorch/XLA documentation, "PJRT Runtime")."""
    return Launch(env={"PJRT_DEVICE": "TPU"})
