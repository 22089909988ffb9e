"""Rank 0's view of the processes that hold the other parts of the model."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jackfield.config.options import EngineOptions
from jackfield.engine.origin import Origin
from jackfield.engine.rank_wire import END, Arrived, FromRank, RankFailed, RankLaunch
from jackfield.engine.step import ExecutorLost, Step
from jackfield.engine.step_codec import StepCodec
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.platform import Platform

_NOTICE_SECONDS = 2.0  # a dead process's sockets may close before its end can be seen
_END_SECONDS = 5.0


class Rank:
    """One other rank: its process and the socket to it."""

    def __init__(self, launch: RankLaunch, origin: Origin) -> None:
        self._decoder: msgspec.msgpack.Decoder[FromRank] = msgspec.msgpack.Decoder(FromRank)
        self.name = f"rank {launch.rank} of {launch.size}"
        self.connection, theirs = multiprocessing.Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jackfield.engine.rank_process", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=dict(origin.env),
            start_new_session=True,  # rank 0 decides when to end
        )
        theirs.close()
        self.connection.send_bytes(msgspec.msgpack.encode(launch))

    def receive(self) -> FromRank:
        """The next message; ExecutorLost when the process has ended instead."""
        try:
            return self._decoder.decode(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise ExecutorLost(self._ended(self.process.wait())) from None

    def ended(self) -> str | None:
        """How the process has ended, or None while it runs."""
        status = self.process.poll()
        return None if status is None else self.told() or self._ended(status)

    def told(self) -> str | None:
        """The error that the rank has sent, or None."""
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                message = self._decoder.decode(self.connection.recv_bytes())
                if isinstance(message, RankFailed):
                    return f"{self.name} failed: {message.error}"
        return None

    def _ended(self, status: int) -> str:
        return f"{self.name} ended " + (f"with status {status}" if status >= 0 else f"by signal {-status}")


class OtherRanks:
    """Starts them, tells them each step, notices when one is gone, ends them."""

    def __init__(self, options: EngineOptions, origin: Origin) -> None:
        self._options, self._origin = options, origin
        self._ranks: list[Rank] = []
        self._codec = StepCodec()
        self._end = weakref.finalize(self, _end, self._ranks)  # with the interpreter, too

    @property
    def pids(self) -> list[int]:
        """Their processes, in the order of the ranks."""
        return [rank.process.pid for rank in self._ranks]

    def connect(self, platform: Platform, size: int) -> Communicator:
        """Start ranks 1 to size - 1 and connect with them; ExecutorLost tells why one did not come."""
        if size == 1:
            return platform.communicator()
        options = msgspec.structs.replace(self._options, platform=platform.name, record_steps=None)
        folder = Path(tempfile.mkdtemp(prefix="jackfield-ranks-"))
        try:
            meeting = str(folder / "meeting")
            for rank in range(1, size):
                self._ranks.append(Rank(RankLaunch(options, rank, size, meeting, self._origin.cpus), self._origin))
            for one in self._ranks:
                message = one.receive()
                if not isinstance(message, Arrived):
                    raise ExecutorLost(f"{one.name} failed: {message.error}")
            return platform.communicator(0, size, meeting)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def send(self, step: Step) -> None:
        """Let every rank run a step; OSError when one is gone."""
        frame = self._codec.encode(step)
        for rank in self._ranks:
            rank.connection.send_bytes(frame)

    def lost(self) -> str | None:
        """Why a rank is gone, or None when all are there; waits a moment for the news."""
        until = time.monotonic() + _NOTICE_SECONDS
        while True:
            for news in (Rank.ended, Rank.told):  # one that was killed before those that noticed
                reason = next((said for rank in self._ranks if (said := news(rank))), None)
                if reason is not None:
                    return reason
            if time.monotonic() > until:
                return None
            time.sleep(0.01)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Nothing is left running when what is done inside fails, and a rank that is the cause is named."""
        try:
            yield
        except BaseException as error:
            reason = self.lost() if isinstance(error, (RuntimeError, OSError)) and self._ranks else None
            self.kill()
            if reason is None or isinstance(error, ExecutorLost):
                raise
            raise ExecutorLost(reason) from error

    def kill(self) -> None:
        """End them at once."""
        for rank in self._ranks:
            rank.process.kill()
        self._end()

    def close(self) -> None:
        """Let them end."""
        self._end()


def _end(ranks: list[Rank]) -> None:
    """Ask each to end, and end those that do not."""
    for rank in ranks:
        with contextlib.suppress(OSError):
            rank.connection.send_bytes(END)
    for rank in ranks:
        try:
            rank.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            rank.process.kill()
            rank.process.wait()
        rank.connection.close()
