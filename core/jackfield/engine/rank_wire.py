"""Messages between rank 0 and each other rank, msgpack frames over one pair of sockets.

To a rank: `RankLaunch`, then a step (`StepCodec`) a frame, at the end an empty frame. The socket's end means rank 0's.
"""

from __future__ import annotations

import msgspec

from jackfield.config.options import EngineOptions


class RankLaunch(msgspec.Struct, frozen=True):
    """What a rank must know to take its place. The options name the platform."""

    options: EngineOptions
    rank: int
    size: int
    meeting: str  # see `Platform.communicator`
    cpus: tuple[int, ...]  # of all ranks on this machine


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """The rank is about to connect with the others."""


class RankFailed(msgspec.Struct, frozen=True, tag=True):
    """The rank ends; the error is for people."""

    error: str


FromRank = Arrived | RankFailed
END = b""
