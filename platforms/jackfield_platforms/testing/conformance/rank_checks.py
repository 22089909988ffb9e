"""Collectives of two ranks, each in a process of its own as a launch has them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from jackfield_platforms.testing.conformance.mismatch import compare, expect
from jackfield_platforms.testing.conformance.rank_process import SEEDS, Place, numbers, take_part
from jackfield_platforms.testing.conformance.subject import Subject

_SIZE, _SECONDS = 2, 120.0  # until a rank's next word


def several_ranks(subject: Subject) -> Iterable[tuple[str, Any]]:
    """The platform, if it says that a model may be split among ranks."""
    most = subject.platform.capabilities().max_ranks
    return [(subject.name, subject)] if most is None or most >= _SIZE else []


def check_two_ranks_agree(several_ranks: Subject, tmp_path: Path) -> None:
    """Sums, parts in the order of the ranks, what either holds; and an error, not a wait, when one is gone."""
    kind, context = type(several_ranks.platform), multiprocessing.get_context("spawn")
    ranks: list[tuple[Connection, Any]] = []
    for rank in range(_SIZE):
        ours, theirs = context.Pipe()
        where = f"{kind.__module__}:{kind.__qualname__}"
        place = Place(where, several_ranks.probe, rank, _SIZE, str(tmp_path / "meeting"))
        process = context.Process(target=take_part, args=(place, theirs), daemon=True)
        process.start()
        theirs.close()
        ranks.append((ours, process))
    try:
        _listen([ours for ours, _ in ranks], several_ranks.platform.capabilities().dtypes)
    finally:
        for ours, process in ranks:
            process.kill()
            process.join()
            ours.close()


def _listen(ranks: list[Connection], dtypes: tuple[str, ...]) -> None:
    for rank, told in enumerate(ranks):
        seat = _next(told, rank, "seat")
        expect(seat == (rank, _SIZE), f"wanted rank {rank} of {_SIZE}; found {seat}")
    for dtype in (*dtypes, "int64"):
        for seed in range(SEEDS):
            wanted = _wanted(seed, dtype)
            for rank, told in enumerate(ranks):
                found = _next(told, rank, f"{dtype}, seed {seed}")
                for what, value in wanted.items():
                    compare(torch.tensor(found[what]), value, 0.0, f"rank {rank}, {dtype}, seed {seed}: {what}")
    error = _next(ranks[0], 0, "gone")
    expect(error, "wanted a RuntimeError out of a collective whose peer is gone; 1,000 of them went well")


def _wanted(seed: int, dtype: str) -> dict[str, Any]:
    """What every rank must get, float64."""
    parts = [numbers(seed, rank, dtype).double() for rank in range(_SIZE)]
    return {
        "all_reduce": torch.stack(parts).sum(0),
        "all_gather along -1": torch.cat(parts, -1),
        "all_gather along 0": torch.cat(parts, 0),
        "all_gather of a transposed tensor": torch.cat([part.t() for part in parts], -1),
        **{f"broadcast from {source}": part for source, part in enumerate(parts)},
        "all_reduce of nothing": torch.tensor([]),
    }


def _next(told: Connection, rank: int, wanted: str) -> Any:
    expect(told.poll(_SECONDS), f"rank {rank} said nothing for {_SECONDS:.0f} seconds; wanted {wanted}")
    try:
        what, value = told.recv()
    except EOFError:
        expect(False, f"rank {rank} ended, see its error above; wanted {wanted}")
    expect(what == wanted, f"wanted {wanted} of rank {rank}; found {what}")
    return value
