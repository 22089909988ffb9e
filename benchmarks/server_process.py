"""`jackfield serve` in a process of its own, for whatever measures or tests it from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType

_POLL_SECONDS = 0.05


class ServerProcess:
    """A server on a free loopback port, as a context: inside, it answers at `url`; afterwards it has ended.

    `options` are those of the command line. Raises RuntimeError, with what the server printed, when it does not start.
    """

    def __init__(self, *options: str, start_seconds: float = 120, stop_seconds: float = 60) -> None:
        self.url = ""
        self._options = options
        self._start_seconds, self._stop_seconds = start_seconds, stop_seconds
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the context
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> ServerProcess:
        command = [sys.executable, "-m", "jackfield", "serve", "--port", "0", *self._options]
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT, text=True)
        try:
            self.url = self._wait_for_url(self._process)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def output(self) -> str:
        """All that the server printed so far, errors included."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode()  # at a place of its own: the server goes on writing

    def stop(self) -> int:
        """Ask it to end, as an operator does, and wait; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(self._stop_seconds)

    def _wait_for_url(self, process: subprocess.Popen[str]) -> str:
        deadline = time.monotonic() + self._start_seconds
        while process.poll() is None and time.monotonic() < deadline:
            line = re.search(r"^(http://\S+)\n", self.output(), re.MULTILINE)
            if line is not None:
                return line[1]
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"the server did not start within {self._start_seconds:g} s:\n{self.output()}")

    def _close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
            self._process.kill()  # nothing happens to one that has ended
            self._process.wait()
        self._output.close()
