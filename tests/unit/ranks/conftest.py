"""Two ranks as two threads of this process, over the process groups that two processes would use."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jackfield_platforms.communicator import Communicator
from jackfield_platforms.torch_communicator import meet

OnRanks = Callable[..., list[Any]]


@pytest.fixture
def on_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnRanks:
    """`on_ranks(work, size=2)` gives `[work(communicator) of each rank]`; what one raises is raised."""
    monkeypatch.setattr("jackfield_platforms.torch_communicator.PEER_SECONDS", 20.0)  # when the other's test failed
    numbers = itertools.count()

    def run(work: Callable[[Communicator], Any], size: int = 2) -> list[Any]:
        meeting = str(tmp_path / f"meeting-{next(numbers)}")
        with ThreadPoolExecutor(size) as pool:
            ranks = [pool.submit(lambda rank: work(meet("gloo", rank, size, meeting)), rank) for rank in range(size)]
            return [rank.result(60) for rank in ranks]

    return run
