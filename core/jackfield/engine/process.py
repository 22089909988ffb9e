"""The engine's own process: `python -m jackfield.engine.process`, started by `jackfield.engine.client`.

It has its own interpreter lock, so that HTTP, tokenising and JSON never stall a step. It ends itself when its parent is
gone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

import msgspec
import zmq

from jackfield.engine.build import build_engine
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineOutput, EngineOutputs, EngineRequest
from jackfield.engine.wire import (
    MAX_QUEUED,
    Abort,
    Add,
    Close,
    Failed,
    FromEngine,
    Launch,
    Outputs,
    ReadStats,
    Ready,
    Stats,
    ToEngine,
)
from jackfield_platforms.refusal import Refused
from jackfield_platforms.selection import PlatformError

logger = logging.getLogger(__name__)
_STDIN, _ORPHANED = 0, 3  # exit status


class Loop:
    """Steps the engine while there is work, and listens while there is none."""

    def __init__(self, engine: Engine, socket: zmq.Socket[bytes]) -> None:
        self._engine, self._socket = engine, socket
        self._decoder, self._encoder = msgspec.msgpack.Decoder(ToEngine), msgspec.msgpack.Encoder()
        self._closing: Close | None = None

    def run(self) -> None:
        """Until the frontend says `Close`."""
        while not self._done():
            wait = 0 if self._engine.has_work else None
            while self._socket.poll(wait) and not self._done():
                self._handle(self._decoder.decode(self._socket.recv()))
                wait = 0
            if self._engine.has_work and not self._done():
                self._send(self._engine.step())

    def _done(self) -> bool:
        return self._closing is not None and not (self._closing.drain and self._engine.has_work)

    def _handle(self, message: ToEngine) -> None:
        if isinstance(message, Add):
            for request in message.requests:
                self._add(request)
        elif isinstance(message, Abort):
            for id in message.ids:
                self._engine.abort(id)
        elif isinstance(message, ReadStats):
            self._socket.send(self._encoder.encode(Stats(self._engine.stats())))
        else:
            self._closing = message

    def _add(self, request: EngineRequest) -> None:
        try:
            self._engine.add(request)
        except ValueError as error:
            self._send(EngineOutputs(others=[EngineOutput(request.id, [], finish_reason="error", error=str(error))]))

    def _send(self, outputs: EngineOutputs) -> None:
        if outputs.ids or outputs.others:
            self._socket.send(self._encoder.encode(Outputs(outputs)))


def main() -> None:
    """Read where to connect and what to serve, serve it, tell what went wrong if anything did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    launch = msgspec.json.decode(_first_line(), type=Launch)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.set_hwm(MAX_QUEUED)
    socket.connect(launch.address)
    error = _serve(launch, socket)
    if error is not None:
        socket.send(msgspec.msgpack.encode(Failed(error)))
    socket.close(linger=5_000)
    context.term()
    sys.exit(0 if error is None else 1)


def _serve(launch: Launch, socket: zmq.Socket[bytes]) -> str | None:
    """Run to the end; what went wrong, for people."""
    try:
        engine = build_engine(launch.options)
    except (
        PlatformError,
        Refused,
        ValueError,
    ) as error:  # what a user can mend; ConfigError and LoadError are ValueErrors
        return str(error)
    except Exception as error:
        return _unexpected(error)
    try:
        ready: FromEngine = Ready(engine.model, engine.startup_text)
        socket.send(msgspec.msgpack.encode(ready))
        Loop(engine, socket).run()
    except Exception as error:
        return _unexpected(error)
    finally:
        engine.close()
    return None


def _unexpected(error: Exception) -> str:
    logger.exception("the engine failed")
    return f"{type(error).__name__}: {error}"


def _first_line() -> bytes:
    """Read without a buffer: a thread that waits inside a buffered reader would trip the interpreter at its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN, 1)
        if not byte:
            sys.exit(_ORPHANED)
        line += byte
    return line


def _end_with_parent() -> None:
    while os.read(_STDIN, 4096):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    main()
