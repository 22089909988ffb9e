"""The frontend's end of an engine that runs in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections import deque
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from jackfield.config.options import EngineOptions
from jackfield.engine.messages import EngineOutputs, EngineRequest, EngineStats
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.wire import (
    MAX_QUEUED,
    Abort,
    Add,
    Close,
    FromEngine,
    Launch,
    Outputs,
    ReadStats,
    Ready,
    Stats,
    ToEngine,
)
from jackfield.frontend.engine_client import EngineDeadError

_MAX_BATCHES = 256  # outputs received and not yet taken; then reading waits
_CLOSE_SECONDS = 10.0


class ProcessEngine:
    """An `EngineClient` over a ZeroMQ pair. `await start_engine(options)` makes one."""

    model: ModelInfo
    startup_text: str

    def __init__(self, process: asyncio.subprocess.Process, socket: zmq.asyncio.Socket, folder: Path) -> None:
        self._process, self._socket, self._folder = process, socket, folder
        self._decoder, self._encoder = msgspec.msgpack.Decoder(FromEngine), msgspec.msgpack.Encoder()
        self._batches: asyncio.Queue[EngineOutputs | None] = asyncio.Queue(_MAX_BATCHES)  # None: no more will come
        self._asked: deque[asyncio.Future[EngineStats]] = deque()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._death: str | None = None
        self._reader = asyncio.create_task(self._read())
        self._watcher = asyncio.create_task(self._watch())

    @property
    def is_alive(self) -> bool:
        return self._death is None

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._process.pid

    async def wait_ready(self) -> None:
        """Until the engine serves; EngineDeadError says why it does not."""
        ready = await self._ready
        self.model, self.startup_text = ready.model, ready.startup_text

    async def add(self, requests: list[EngineRequest]) -> None:
        await self._send(Add(requests))

    async def abort(self, ids: list[str]) -> None:
        await self._send(Abort(ids))

    async def outputs(self) -> EngineOutputs:
        batch = await self._batches.get()
        if batch is None:
            self._batches.put_nowait(None)  # whoever asks next hears it too
            raise EngineDeadError(self._death or "the engine was closed")
        return batch

    async def stats(self) -> EngineStats:
        answer: asyncio.Future[EngineStats] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        await self._send(ReadStats())
        return await answer

    async def close(self, drain: bool) -> None:
        if self.is_alive:
            await self._send(Close(drain))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), None if drain else _CLOSE_SECONDS)
        if self._process.returncode is None:
            self._process.kill()
        await self._watcher
        self._socket.close(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _send(self, message: ToEngine) -> None:
        if self._death is not None:
            raise EngineDeadError(self._death)
        await self._socket.send(self._encoder.encode(message))

    async def _read(self) -> None:
        while True:
            message = self._decoder.decode(await self._socket.recv())
            if isinstance(message, Outputs):
                await self._batches.put(message.outputs)
            elif isinstance(message, Stats):
                answer = self._asked.popleft()
                if not answer.done():  # its reader may have given up
                    answer.set_result(message.stats)
            elif isinstance(message, Ready):
                self._ready.set_result(message)
            else:
                self._die(message.error)

    async def _watch(self) -> None:
        """When the process has ended, take what it still sent, then tell everyone who waits."""
        status = await self._process.wait()
        while not self._batches.full() and await self._socket.poll(100):  # full: nobody takes what comes
            await asyncio.sleep(0)  # the reader takes them
        self._reader.cancel()
        self._die(
            f"the engine process ended with status {status}"
            if status >= 0
            else f"the engine process was ended by signal {-status}"
        )
        if self._batches.full():
            self._batches.get_nowait()
        self._batches.put_nowait(None)

    def _die(self, reason: str) -> None:
        if self._death is None:
            self._death = reason
        error = EngineDeadError(self._death)
        if not self._ready.done():
            self._ready.set_exception(error)
        for answer in self._asked:
            if not answer.done():  # its reader may have given up
                answer.set_exception(error)
        self._asked.clear()


async def start_engine(options: EngineOptions) -> ProcessEngine:
    """Start the engine's process and wait until it serves.

    EngineDeadError says why it does not; the process is gone then.
    """
    folder = Path(tempfile.mkdtemp(prefix="jackfield-"))
    socket = zmq.asyncio.Context.instance().socket(zmq.PAIR)
    socket.set_hwm(MAX_QUEUED)
    address = f"ipc://{folder}/engine"
    socket.bind(address)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jackfield.engine.process", stdin=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(Launch(address, options)) + b"\n")
    await process.stdin.drain()
    engine = ProcessEngine(process, socket, folder)
    try:
        await engine.wait_ready()
    except BaseException:
        await engine.close(drain=False)
        raise
    return engine
