"""What torch-xla counts of itself: programs that were compiled, and operations that ran on the host instead.

`torch_xla.debug.metrics` (PyTorch/XLA documentation, "Troubleshooting", "Get A Metrics Report"): the metric
`CompileTime` has a sample for each program that XLA compiled, and counters whose names begin with `aten::` tell
operations without a lowering, which leave the device.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMPILED = "CompileTime"
_ON_HOST = "aten::"


def num_compilations() -> int:
    """Programs compiled in this process so far."""
    from torch_xla.debug import metrics

    samples = metrics.metric_data(_COMPILED)
    return 0 if samples is None else int(samples[0])


def fallbacks() -> Mapping[str, int]:
    """Operations that ran on the host for want of a lowering, and how often each."""
    from torch_xla.debug import metrics

    names = [name for name in metrics.counter_names() if name.startswith(_ON_HOST)]
    return {name: int(metrics.counter_value(name) or 0) for name in names}
