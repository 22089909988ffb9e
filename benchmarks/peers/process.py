"""The parent's side of `worker.py`: an engine that is stopped while others have their turn."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from peers.streams import Arrival
from peers.workloads import Request

WORKER = Path(__file__).with_name("worker.py")
CLOSE_SECONDS = 20


class EngineFailed(Exception):
    """An engine did not start, did not answer, or answered wrongly; the message is its own."""


class EngineProcess:
    """Starts at once; EngineFailed when it does not get as far as its first token within `seconds`.

    `first_token_seconds` is from the start of the process. After `pause` none of its processes runs until `resume`.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, seconds: float) -> None:
        self._seconds = seconds
        self._log = log.open("a")
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            self.settings: dict[str, Any] = self._read()["settings"]
        except BaseException:
            self.close()
            raise
        self.first_token_seconds = time.perf_counter() - start

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(self, requests: Sequence[Request]) -> float:
        """Seconds until all are answered."""
        return float(self._ask({"requests": requests})["seconds"])

    def stream(self, arrivals: Sequence[Arrival]) -> list[list[float]]:
        """Instants of the events of each answer, in seconds on the clock of the arrivals."""
        return list(self._ask({"arrivals": arrivals})["streams"])

    def memory(self) -> dict[str, int]:
        """Bytes that it and its children have resident: `rss`; `pss`, which shares out what several map; and `peak`,
        the sum of the most that each of them ever had.
        """
        infos, peak = [], 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # it ended since
                infos.append(process.memory_full_info())
                peak += peak_bytes(Path(f"/proc/{process.pid}/status").read_text())
        return {"rss": sum(info.rss for info in infos), "pss": sum(info.pss for info in infos), "peak": peak}

    def pause(self) -> None:
        """Stop all of its processes where they are: waiting engines may spin."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Go on."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """End it and its children, with force where asking does not help."""
        self.resume()
        tree = self._tree()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        _, left = psutil.wait_procs(tree, CLOSE_SECONDS)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], self._seconds)
        if not ready:
            raise EngineFailed(f"no answer within {self._seconds:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise EngineFailed(f"ended with status {self._process.wait()}; see {self._log.name}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise EngineFailed(message["error"])
        return message

    def _tree(self) -> list[psutil.Process]:
        if self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]


def peak_bytes(status: str) -> int:
    """The most that was resident at once, from the text of /proc/PID/status; 0 for a process without memory."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    return 0
