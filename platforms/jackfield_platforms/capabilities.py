"""What a platform can do, as data. The core reads these fields; it never asks for a platform's name."""

from __future__ import annotations

import msgspec


class SchedulingRules(msgspec.Struct, frozen=True):
    """How the scheduler must shape a step for this platform. The defaults suit a device that takes any shape."""

    mixed: bool = True  # prefill and decode rows in one step
    chunked: bool = True  # a prompt may be split over steps
    max_prefills: int | None = None  # prefill rows a step; None: no limit
    chunk_multiple: int = 1  # a chunk that does not end its prompt is a multiple of this
    prefix_reuse: bool = True  # a row may start behind cached blocks
    max_in_flight: int = 2  # steps launched and not yet committed; 1: the plain loop


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen facts about a platform.

    `dtypes` are names as in `torch.<name>`, best first; `"auto"` on the command line takes the checkpoint's dtype when
    it is listed, otherwise the first of the same width class. `memory_utilization` is the share of free memory that the
    engine may plan with unless the user says otherwise.
    """

    dtypes: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    asynchronous: bool = False  # launch returns before the device is done, so that the overlapped loop pays
    pinned_memory: bool = False  # host buffers that are copied from should be page-locked
    static_shapes: bool = False  # only planned buckets may run
    max_ranks: int | None = 1  # among which one model may be split (tensor parallelism); None: no limit
    memory_utilization: float = 0.9
    scheduling: SchedulingRules = SchedulingRules()
