"""Engines behind a server over loopback, each in its natural form; the worker is their client.

Built and asked as the adapters in `adapters.py` are; runs in the engine's own environment, on the standard library.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from peers.streams import Arrival, Stream, ask_all, counted

Request = tuple[list[int], int]
Answer = tuple[list[int], float | None]
Options = dict[str, Any]


class Died(RuntimeError):
    """A peer's program ended; `status` is negative where a signal did it."""

    def __init__(self, program: str, status: int) -> None:
        super().__init__(f"{program} ended with status {status}")
        self.status = status


class Server:
    """A program that serves. Subclasses say the command and the body of a request."""

    path, ready_path = "/v1/completions", "/health"

    def __init__(self, command: Sequence[str], port: int, sequences: int) -> None:
        self._port = port
        self._process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)])
        self._clients = ThreadPoolExecutor(sequences)
        self.settings: dict[str, Any] = {"command": " ".join(command[1:])}
        while not self._is_ready():
            if self._process.poll() is not None:
                raise Died(Path(command[0]).name, self._process.returncode)
            time.sleep(0.02)

    def body(self, ids: list[int], count: int) -> dict[str, Any]:
        """Of a request: greedy, without regard to end tokens."""
        return {"prompt": ids, "max_tokens": count, "ignore_eos": True, "temperature": 0}

    def run(self, requests: Sequence[Request]) -> Answer:
        """All at once, answers whole."""
        return list(self._clients.map(self._complete, requests)), None

    def stream(self, arrivals: Sequence[Arrival]) -> list[Stream]:
        """Each when it is due, answers as they are made."""
        return ask_all(self._port, self.path, self._streamed, arrivals)

    def _streamed(self, ids: list[int], count: int) -> dict[str, Any]:
        return {**self.body(ids, count), "stream": True}

    def _complete(self, request: Request) -> int:
        status, answer = self._ask("POST", self.path, json.dumps(self.body(*request)))
        if status != 200:
            raise RuntimeError(answer[:300])
        return counted(json.loads(answer))

    def _is_ready(self) -> bool:
        try:
            return self._ask("GET", self.ready_path, None)[0] == 200
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class OpenAIServer(Server):
    """One that speaks OpenAI's protocol; its streams end with the usage."""

    def _streamed(self, ids: list[int], count: int) -> dict[str, Any]:
        return {**self.body(ids, count), "stream": True, "stream_options": {"include_usage": True}}


def jackfield_variables() -> dict[str, str]:
    """What the environment tells Jackfield, for its settings."""
    return {name: value for name, value in os.environ.items() if name.startswith("JACKFIELD_CPU_")}


class JackfieldServer(OpenAIServer):
    """`jackfield serve`."""

    ready_path = "/ready"

    def __init__(self, model: str, options: Options) -> None:
        flags = {
            **{name.replace("_", "-"): value for name, value in options["own"].items()},
            "max-model-len": options["context"],
            "max-num-seqs": options["sequences"],
            "kv-cache-memory": options["kv_bytes"],
        }
        command = [sys.executable, "-m", "jackfield", "serve", "--model", model, *as_flags(flags)]
        super().__init__(command, free_port(), options["sequences"])
        self.settings |= {"kv_bits": 16, **jackfield_variables()}


class VllmServer(OpenAIServer):
    """What `vllm serve` starts. Asked by the folder's name, as it calls the model unless told."""

    def __init__(self, model: str, options: Options) -> None:
        self._model = model
        flags = {"dtype": "bfloat16", "max-model-len": options["context"], "max-num-seqs": options["sequences"]}
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *as_flags(flags)]
        command += ["--disable-log-stats", "--disable-uvicorn-access-log"]
        super().__init__(command, free_port(), options["sequences"])
        self.settings |= {"kv_bits": 16}

    def body(self, ids: list[int], count: int) -> dict[str, Any]:
        return {**super().body(ids, count), "model": self._model}


class LlamaServer(Server):
    """llama-server over loopback, slots with K/V of their own; samples by its cheapest greedy chain.

    Where a signal ends it (its int8 kernels for AMX, on processors that we met), weights stay as the file has them.
    """

    path = "/completion"

    def __init__(self, model: str, options: Options) -> None:
        threads, (slots, tokens) = str(options["threads"]), options["slots"]
        flags = ["-t", threads, "-tb", threads, "-np", str(slots), "-cb", "-no-kvu", "-c", str(slots * tokens)]
        flags += ["-b", "2048", "-ub", "512", "-fa", "on", "-ctk", "f16", "-ctv", "f16"]
        flags += ["--cache-ram", "2048" if options["own"]["share_prefixes"] else "0"]
        command = [str(Path(options["programs"]) / "llama-server"), "-m", model, *flags]
        try:
            super().__init__(command, free_port(), options["sequences"])
        except Died as died:
            if died.status >= 0:
                raise
            super().__init__([*command, "--no-repack"], free_port(), options["sequences"])
            self.settings |= {"not repacked": str(died)}
        self.settings |= {"kv_bits": 16, "weights": "mapped from the file (its default)"}

    def body(self, ids: list[int], count: int) -> dict[str, Any]:
        greedy = {"temperature": 0, "samplers": ["top_k"], "top_k": 1}
        return {"prompt": ids, "n_predict": count, "ignore_eos": True, "cache_prompt": True, **greedy}


def as_flags(options: Mapping[str, Any]) -> list[str]:
    """As a command line wants them."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
