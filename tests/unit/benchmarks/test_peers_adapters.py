"""Reading what other programs print, and an engine at the other end of a pipe."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from peers.adapters import LlamaBench
from peers.process import EngineFailed, EngineProcess, peak_bytes
from peers.servers import LlamaServer
from peers.streams import Arrival

REQUESTS = [([1] * 64 + [number], 4) for number in range(3)]

ECHO = """
import json, sys
print(json.dumps({"ready": True, "settings": {"a": 1}}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "arrivals" in message:
        print(json.dumps({"streams": [[at, at + count] for at, ids, count in message["arrivals"]]}), flush=True)
        continue
    requests = message["requests"]
    print(json.dumps({"seconds": len(requests)} if requests else {"error": "nothing to do"}), flush=True)
"""


def llama_bench(monkeypatch: pytest.MonkeyPatch, printed: str) -> tuple[LlamaBench, list[tuple[str, ...]]]:
    calls = []

    def output(self: LlamaBench, *command: str) -> str:
        calls.append(command)
        return printed

    monkeypatch.setattr(LlamaBench, "_output", output)
    return LlamaBench("model.gguf", {"programs": "/nowhere", "threads": 2}), calls


def test_a_single_stream_is_a_prompt_and_tokens_after_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, calls = llama_bench(monkeypatch, json.dumps([{"avg_ns": 2_500_000_000, "avg_ts": 50.0}]))
    assert bench.run([([1] * 128, 128)]) == ([128], 2.5)
    assert calls[0][-1] == "128,127"
    assert bench.run([([1] * 128, 1)]) == ([1], 2.5)
    assert calls[1][-4:] == ("-p", "128", "-n", "0")


def test_a_batch_takes_what_the_last_line_says(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "loading\n" + json.dumps({"pp": 1, "t": 9.0}) + "\n" + json.dumps({"pp": 64, "t": 7.5}) + "\n"
    bench, calls = llama_bench(monkeypatch, printed)
    requests = [([number] * 65, 4) for number in range(3)]
    assert bench.run(requests) == ([4, 4, 4], 7.5)
    assert calls[0][-2:] == ("-c", str(3 * 69))


def test_a_batch_that_prints_nothing_is_tried_again_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, calls = llama_bench(monkeypatch, "loading\n")
    with pytest.raises(RuntimeError, match="printed nothing in 5 runs"):
        bench.run([([number] * 65, 4) for number in range(3)])
    assert len(calls) == 5


@pytest.mark.parametrize("requests", [REQUESTS, [([1] * 4, 2), ([2] * 5, 2)]], ids=["shared", "unequal"])
def test_what_llama_bench_cannot_ask_is_refused(monkeypatch: pytest.MonkeyPatch, requests: Any) -> None:
    bench, _ = llama_bench(monkeypatch, "[]")
    with pytest.raises(NotImplementedError, match="equal requests that share nothing"):
        bench.run(requests)


REPACKING_KILLS = """#!{python}
import json, os, signal, sys
if sys.argv[-2:] != ["--repack", "0"]:
    os.kill(os.getpid(), getattr(signal, "{signal}")) if "{signal}" else sys.exit(3)
print(json.dumps([{{"avg_ns": 2_000_000_000}}]))
"""


def killed_program(tmp_path: Path, signal: str) -> LlamaBench:
    program = tmp_path / "llama-bench"
    program.write_text(REPACKING_KILLS.format(python=sys.executable, signal=signal))
    program.chmod(0o755)
    return LlamaBench("model.gguf", {"programs": str(tmp_path), "threads": 2})


def test_a_program_that_a_signal_ends_is_asked_without_repacking_and_says_so(tmp_path: Path) -> None:
    bench = killed_program(tmp_path, "SIGILL")
    assert bench.run([([1] * 128, 1)]) == ([1], 2.0)
    assert bench.settings["not repacked"] == "llama-bench ended with status -4"
    assert bench.run([([1] * 128, 1)]) == ([1], 2.0)


def test_a_program_that_fails_by_itself_is_not_asked_again(tmp_path: Path) -> None:
    bench = killed_program(tmp_path, "")
    with pytest.raises(RuntimeError, match="llama-bench ended with status 3"):
        bench.run([([1] * 128, 1)])
    assert "not repacked" not in bench.settings


REPACKING_KILLS_THE_SERVER = """#!{python}
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
if "--no-repack" not in sys.argv:
    os.kill(os.getpid(), signal.SIGILL)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_a_server_that_a_signal_ends_is_started_without_repacking_and_says_so(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(REPACKING_KILLS_THE_SERVER.format(python=sys.executable))
    program.chmod(0o755)
    options = {"threads": 2, "slots": (1, 64), "own": {"share_prefixes": False}, "programs": str(tmp_path)}
    server = LlamaServer("model.gguf", {**options, "sequences": 1})
    server.close()
    assert server.settings["not repacked"] == "llama-server ended with status -4"
    assert server.settings["command"].endswith("--no-repack")


def engine(script: str, tmp_path: Path, seconds: float = 30) -> EngineProcess:
    return EngineProcess([sys.executable, "-c", script], os.environ, tmp_path / "log", seconds=seconds)


def test_an_engine_answers_after_a_pause(tmp_path: Path) -> None:
    with engine(ECHO, tmp_path) as process:
        assert process.settings == {"a": 1}
        process.pause()
        process.resume()
        assert process.run(REQUESTS) == 3
        memory = process.memory()
        assert 0 < memory["rss"] <= memory["peak"]


def test_an_engine_answers_arrivals_with_instants(tmp_path: Path) -> None:
    with engine(ECHO, tmp_path) as process:
        assert process.stream([Arrival(0.5, [1, 2], 4)]) == [[0.5, 4.5]]


def test_the_peak_of_memory_is_read_from_the_kernel() -> None:
    assert peak_bytes("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  12 kB\nVmRSS:\t 8 kB\n") == 12 * 1024
    assert peak_bytes("Name:\tkthreadd\n") == 0


def test_an_engine_s_reason_is_told(tmp_path: Path) -> None:
    with engine(ECHO, tmp_path) as process, pytest.raises(EngineFailed, match="nothing to do"):
        process.run([])


def test_an_engine_that_ends_is_told_with_its_status_and_log(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"ended with status 3; see .*log"):
        engine("raise SystemExit(3)", tmp_path)


def test_an_engine_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"no answer within 0.2 s"):
        engine("import sys; sys.stdin.read()", tmp_path, seconds=0.2)
