"""A running server as `chat` and `complete` see it: one request, the pieces of its streamed answer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import click
import msgspec

URL = click.Option(["--url"], help="Ask this server (http://127.0.0.1:8000/v1) instead of loading a model here.")
API_KEY = click.Option(["--api-key"], envvar="JACKFIELD_API_KEY", help="What that server wants as a bearer token.")


class ServerError(Exception):
    """The server cannot be reached, or refused. The message holds its own words."""


class Client(msgspec.Struct, frozen=True):
    """Talks to an OpenAI-compatible API at `url`, which ends in /v1."""

    url: str
    api_key: str | None = None

    def model(self) -> str:
        """The first model that the server offers."""
        with self._open("models") as reply:
            name: str = json.load(reply)["data"][0]["id"]
        return name

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Post `body` and yield the first choice of each streamed chunk."""
        with self._open(path, {"model": self.model(), "stream": True, **body}) as reply:
            for line in reply:
                event = line.strip().removeprefix(b"data: ")
                if not line.startswith(b"data: ") or event == b"[DONE]":
                    continue
                chunk = json.loads(event)
                if "error" in chunk:
                    raise ServerError(f"{self.url} gave up: {chunk['error']['message']}")
                yield from chunk["choices"][:1]

    def _open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", data, headers)
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(f"{self.url} answered {error.code}: {_words(error.read())}") from None
        except urllib.error.URLError as error:
            raise ServerError(f"{self.url} cannot be reached: {error.reason}; is `jackfield serve` running?") from None


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
