"""A rank of its own process, for `rank_checks`. Imports no framework before the platform's launch was applied."""

from __future__ import annotations

import importlib
import os
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from jackfield_platforms.launching import apply_launch
from jackfield_platforms.probe import LaunchOptions

SHAPE, SEEDS = (3, 5), 3


class Place(msgspec.Struct, frozen=True):
    """Which platform (`module:Class`, its probe's module), which rank of how many, where they meet."""

    platform: str
    probe: str | None
    rank: int
    size: int
    meeting: str


def take_part(place: Place, told: Connection) -> None:
    """Send what each collective gave, by its name; then the last rank ends without a word, and the others tell of that.

    What a rank brings is `numbers`; results are nested lists.
    """
    if place.probe is not None:
        options = LaunchOptions(local_rank=place.rank, local_size=place.size)
        apply_launch(importlib.import_module(place.probe).environment(options))
    module, _, name = place.platform.partition(":")
    platform = getattr(importlib.import_module(module), name)()
    comm = platform.communicator(place.rank, place.size, place.meeting)
    told.send(("seat", (comm.rank, comm.size)))
    for dtype in (*platform.capabilities().dtypes, "int64"):
        for seed in range(SEEDS):
            x = numbers(seed, place.rank, dtype).to(platform.device(place.rank))
            results = {
                "all_reduce": comm.all_reduce(x.clone()),
                "all_gather along -1": comm.all_gather(x.clone()),
                "all_gather along 0": comm.all_gather(x.clone(), 0),
                "all_gather of a transposed tensor": comm.all_gather(x.clone().t()),
                **{f"broadcast from {source}": comm.broadcast(x.clone(), source) for source in range(place.size)},
                "all_reduce of nothing": comm.all_reduce(x[:0].clone()),
            }
            told.send((f"{dtype}, seed {seed}", {what: result.cpu().tolist() for what, result in results.items()}))
    if place.rank == place.size - 1:
        told.close()
        os._exit(0)
    told.send(("gone", _after_the_end(comm, x)))


def numbers(seed: int, rank: int, dtype: str) -> Any:
    """Whole numbers so small that every dtype holds their sums, `SHAPE`."""
    import torch

    generator = torch.Generator().manual_seed(100 * seed + rank)
    return torch.randint(-20, 20, SHAPE, generator=generator).to(getattr(torch, dtype))


def _after_the_end(comm: Any, x: Any) -> str:
    """The error of a collective whose peer is gone; a rank may finish some before it notices."""
    try:
        for _ in range(1000):
            comm.all_reduce(x.clone()).cpu()
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"
    return ""
