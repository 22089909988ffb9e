"""A rank's own process: `python -m jackfield.engine.rank_process FD`, started by `jackfield.engine.other_ranks`.

It holds its part of the model, runs every step that rank 0 schedules, and ends itself when rank 0 is gone.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

import msgspec

from jackfield.engine.build import prepare
from jackfield.engine.rank_wire import END, Arrived, RankFailed, RankLaunch
from jackfield_platforms.probe import LaunchOptions

logger = logging.getLogger(__name__)
_ORPHANED = 3  # exit status
Frames = queue.SimpleQueue[bytes]


def main() -> None:
    """Take the place that rank 0 names, run to the end, tell what went wrong if anything did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides when to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        launch = msgspec.msgpack.decode(connection.recv_bytes(), type=RankLaunch)
    except EOFError:
        sys.exit(_ORPHANED)
    frames: Frames = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, frames), daemon=True).start()
    try:
        _run(launch, connection, frames)
    except Exception as error:
        connection.send_bytes(msgspec.msgpack.encode(RankFailed(f"{type(error).__name__}: {error}")))
        sys.exit(1)


def _listen(connection: Connection, frames: Frames) -> None:
    """Hand frames over; the rank ends with rank 0, whatever it is doing."""
    while True:
        try:
            frame = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(_ORPHANED)
        frames.put(frame)
        if frame == END:
            return


def _run(launch: RankLaunch, connection: Connection, frames: Frames) -> None:
    found = prepare(launch.options.platform, LaunchOptions(launch.rank, launch.size, launch.cpus))
    from jackfield.engine.assembly import draw_blueprint, make_runner  # torch: after the launch was applied
    from jackfield.engine.step_codec import StepCodec
    from jackfield_platforms.communicator import Communicator
    from jackfield_platforms.platform import Platform

    def connect(platform: Platform, size: int) -> Communicator:
        connection.send_bytes(msgspec.msgpack.encode(Arrived()))
        return platform.communicator(launch.rank, size, launch.meeting)

    runner = make_runner(draw_blueprint(found, launch.options, connect), progress=False).runner
    codec = StepCodec()
    while (frame := frames.get()) != END:
        runner.follow(runner.launch(codec.decode(frame)))


if __name__ == "__main__":
    main()
