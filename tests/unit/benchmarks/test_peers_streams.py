"""The client of streams, against a server of our own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from peers.streams import Arrival, answered, ask_all, carries_token


class Handler(BaseHTTPRequestHandler):
    """Streams as many events as tokens were asked for, in chunks, then the usage; refuses to make none."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        count = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"]
        if not count:
            self.send_error(400, "nothing to do")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(count):
            self._event({"choices": [{"text": "x"}], "usage": None})
            time.sleep(0.01)
        self._event({"choices": [], "usage": {"completion_tokens": count}})
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, message: dict[str, Any]) -> None:
        line = b"data: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def body(ids: list[int], count: int) -> dict[str, Any]:
    return {"prompt": ids, "max_tokens": count}


def test_requests_are_sent_when_due_and_their_events_timed(port: int) -> None:
    late, soon = ask_all(port, "/", body, [Arrival(0.2, [1], 3), Arrival(0.0, [1, 2], 5)])
    assert (late.tokens, soon.tokens) == (3, 5)
    assert (len(late.events), len(soon.events)) == (3, 5), "the usage is no token"
    assert late.events == sorted(late.events)
    assert soon.events[0] < 0.2 <= late.events[0]


def test_a_refusal_is_told(port: int) -> None:
    with pytest.raises(RuntimeError, match=r"400 nothing to do"):
        ask_all(port, "/", body, [Arrival(0.0, [1], 0)])


def test_events_that_only_count_bring_no_token() -> None:
    assert carries_token(b'data: {"index":0,"content":"a","stop":false,"tokens_predicted":1}')
    assert not carries_token(b'data: {"index":0,"content":"","stop":true,"tokens_predicted":1}')
    assert not carries_token(b'data: {"id":"a","choices":[],"usage":{"completion_tokens":1}}')


def test_the_last_event_counts_the_tokens() -> None:
    assert answered(b'data: {"stop":true,"tokens_predicted":7}') == 7
    assert answered(b'data: {"choices":[],"usage":{"completion_tokens":8}}') == 8
    with pytest.raises(RuntimeError, match="wanted a count of tokens"):
        answered(b'data: {"error":{"message":"no"}}')
