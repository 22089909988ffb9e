"""`chat` and `complete`, in process and against a server that answers over a real socket."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from jackfield.cli.main import main
from jackfield.sampling_params import SamplingParams


class FakeLLM:
    """Records how it is made and asked; answers with what it was asked last, backwards."""

    made: list
    asked: list

    def __init__(self, **options):
        self.made.append(options)

    def stream_chat(self, messages, sampling):
        self.asked.append(([dict(message) for message in messages], sampling))
        yield from messages[-1]["content"][::-1]

    def stream(self, prompt, sampling):
        self.asked.append((prompt, sampling))
        yield from prompt[::-1]


@pytest.fixture
def llm(replace_module):
    fake = type("LLM", (FakeLLM,), {"made": [], "asked": []})
    replace_module("jackfield.llm", LLM=fake)
    return fake


@pytest.fixture
def server():
    """A server of one model that streams `pieces`; `requests` holds (path, authorization, body)."""
    state = SimpleNamespace(requests=[], pieces=["Hel", "lo", ""], status=200, last={"choices": [], "usage": {}})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._reply(b'{"data": [{"id": "tiny"}]}')

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append((self.path, self.headers["Authorization"], body))
            key = (lambda text: {"delta": {"content": text}}) if "chat" in self.path else (lambda text: {"text": text})
            events = [{"choices": [key(piece)]} for piece in state.pieces] + [state.last]
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            self._reply(lines.encode() if state.status == 200 else b'{"error": {"message": "busy just now"}}')

        def _reply(self, body):
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/v1"
        yield state
        http.shutdown()
        thread.join()


def test_complete_in_process(run, llm):
    result = run("complete", "abc", "--model", "folder", "--max-tokens", "5", "--temperature", "0", "--seed", "3")
    assert result.output == "cba\n"
    assert llm.made[0]["model"] == "folder"
    assert llm.made[0]["seed"] == 3
    assert llm.asked == [("abc", SamplingParams(max_tokens=5, temperature=0.0))]


@pytest.mark.parametrize("words", [[], ["-"]])
def test_complete_reads_standard_input(run, llm, words):
    assert run("complete", *words, text="abc").output == "cba\n"
    assert llm.asked[0][0] == "abc"


def test_complete_on_a_server(run, server):
    result = run("complete", "abc", "--url", server.url, "--api-key", "k", "--top-k", "7")
    assert result.output == "Hello\n"
    ((path, authorization, body),) = server.requests
    assert (path, authorization) == ("/v1/completions", "Bearer k")
    assert (body["prompt"], body["model"], body["stream"]) == ("abc", "tiny", True)
    assert (body["max_tokens"], body["top_k"]) == (64, 7)


def test_chat_in_process_remembers_the_conversation(run, llm):
    result = run("chat", "folder", "--system", "Be brief.", text="one\ntwo\n\n")
    assert "eno\n" in result.output
    assert "owt\n" in result.output
    last, sampling = llm.asked[-1]
    assert [message["content"] for message in last] == ["Be brief.", "one", "eno", "two"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "user"]
    assert sampling.max_tokens is None
    assert len(llm.made) == 1


def test_chat_on_a_server_streams_each_answer(run, server):
    result = run("chat", "--url", server.url, text="one\ntwo\n")
    assert result.exit_code == 0
    assert result.output.count("Hello\n") == 2
    path, authorization, body = server.requests[-1]
    assert (path, authorization) == ("/v1/chat/completions", None)
    assert [message["content"] for message in body["messages"]] == ["one", "Hello", "two"]
    assert "max_tokens" not in body


def test_a_sampling_value_out_of_range_is_a_usage_error(run):
    result = run("complete", "abc", "--temperature", "-1")
    assert result.exit_code == 2
    assert "temperature must be between 0 and 100; got -1.0" in result.output


@pytest.fixture
def failing(monkeypatch, capsys):
    """`failing(*words)` gives what the whole program says when it ends with status 1."""

    def say(*words):
        monkeypatch.setattr("sys.argv", ["jackfield", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1
        return capsys.readouterr().err

    return say


def test_a_refusal_of_the_server_is_told_in_its_words(failing, server):
    server.status = 429
    assert failing("complete", "abc", "--url", server.url).startswith(f"jackfield: {server.url} answered 429: ")


def test_a_server_that_is_not_there_is_told(failing, server):
    url = "http://127.0.0.1:9/v1"
    assert "cannot be reached" in failing("complete", "abc", "--url", url)


def test_an_error_inside_a_stream_is_told(failing, server):
    server.last = {"error": {"message": "engine died"}}
    assert "gave up: engine died" in failing("complete", "abc", "--url", server.url)
