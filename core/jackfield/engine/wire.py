"""Messages between the frontend's process and the engine's, msgpack over one ZeroMQ pair."""

from __future__ import annotations

import msgspec

from jackfield.config.options import EngineOptions
from jackfield.engine.messages import EngineOutputs, EngineRequest, EngineStats
from jackfield.engine.model_info import ModelInfo

MAX_QUEUED = 4096
"""Messages that may wait on either side; then the sender waits, so that a stalled reader costs time and no memory."""


class Launch(msgspec.Struct, frozen=True):
    """The first line on the engine's standard input, as JSON. The pipe then stays open: its end means the parent's."""

    address: str
    options: EngineOptions


class Add(msgspec.Struct, frozen=True, tag=True):
    requests: list[EngineRequest]


class Abort(msgspec.Struct, frozen=True, tag=True):
    ids: list[str]


class ReadStats(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Stats`, in order."""


class Close(msgspec.Struct, frozen=True, tag=True):
    """End the process, with `drain` after the sequences that run have finished."""

    drain: bool


class Ready(msgspec.Struct, frozen=True, tag=True):
    model: ModelInfo
    startup_text: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine could not start, or broke; the process ends after this."""

    error: str


class Stats(msgspec.Struct, frozen=True, tag=True):
    stats: EngineStats


class Outputs(msgspec.Struct, frozen=True, tag=True):
    outputs: EngineOutputs


ToEngine = Add | Abort | ReadStats | Close
FromEngine = Ready | Failed | Stats | Outputs
