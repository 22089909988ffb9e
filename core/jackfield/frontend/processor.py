"""Hands the engine's outputs to the requests that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from jackfield.engine.messages import EngineOutput, EngineOutputs
from jackfield.frontend.requests import Request, RequestBuilder
from jackfield.frontend.sequence import Sequence
from jackfield.outputs import RequestOutput


class Timings(Protocol):
    """Hears of every moment at which tokens arrived; seconds."""

    def first(self, seconds: float) -> None:
        """From a request's arrival to a sequence's first token."""

    def between(self, seconds: float) -> None:
        """From one token of a sequence to its next."""


class RequestState:
    """A request under way: its sequences, and what went wrong, if anything. `wake` is called when something came."""

    def __init__(
        self, request: Request, builder: RequestBuilder, *, first_index: int = 0, wake: Callable[[], None] | None = None
    ) -> None:
        self.request = request
        self.wake = wake
        self.arrived = monotonic()
        self.num_cached_tokens = 0
        self.num_unstarted = 0  # sequences that the engine has and that have no token yet
        self.num_unfinished = len(request.sequences)
        self.error: str | None = None
        self.sequences = [
            Sequence(first_index + i, request.prompt_token_ids, request.sampling, builder)
            for i in range(len(request.sequences))
        ]

    def output(self) -> RequestOutput:
        """All that came so far."""
        return RequestOutput(
            request_id=self.request.id,
            prompt=self.request.prompt,
            prompt_token_ids=self.request.prompt_token_ids,
            outputs=[sequence.completion() for sequence in self.sequences],
            finished=self.num_unfinished == 0,
            num_cached_tokens=self.num_cached_tokens,
        )


class _Live:
    """One sequence that the engine runs."""

    __slots__ = ("last_token_at", "sequence", "state")

    def __init__(self, state: RequestState, sequence: Sequence) -> None:
        self.state = state
        self.sequence = sequence
        self.last_token_at: float | None = None


class OutputProcessor:
    """Owns the requests under way. Outputs of sequences that it does not know (aborted ones) are dropped."""

    def __init__(self, timings: Timings | None = None) -> None:
        self._live: dict[str, _Live] = {}
        self._timings = timings
        self.num_waiting = 0  # sequences without a token yet

    def add(self, state: RequestState) -> None:
        """Expect outputs for a request's sequences."""
        if any(engine_request.id in self._live for engine_request in state.request.sequences):
            raise ValueError(f"request id {state.request.id!r} is in use: wait for its end or choose another")
        for engine_request, sequence in zip(state.request.sequences, state.sequences, strict=True):
            self._live[engine_request.id] = _Live(state, sequence)
        state.num_unstarted = len(state.sequences)
        self.num_waiting += state.num_unstarted

    def remove(self, state: RequestState) -> list[str]:
        """Forget a request, if it was added; the ids that the engine must still be told to abort."""
        ids = [one.id for one in state.request.sequences if one.id in self._live and self._live[one.id].state is state]
        for engine_id in ids:
            del self._live[engine_id]
        self.num_waiting -= state.num_unstarted
        state.num_unstarted = 0
        return ids

    def process(self, outputs: EngineOutputs) -> tuple[list[RequestState], list[str]]:
        """Requests that got something, and ids that the engine must abort: a stop string or an error ended them."""
        now = monotonic()
        updated: dict[int, RequestState] = {}  # by identity
        aborts: list[str] = []
        for engine_id, token in zip(outputs.ids, outputs.token_ids, strict=True):
            live = self._live.get(engine_id)
            if live is None:
                continue
            updated[id(live.state)] = live.state
            self._count(live, now)
            if live.sequence.accept_token(token):
                aborts.append(engine_id)
                self._finish(live, engine_id)
        for output in outputs.others:
            live = self._live.get(output.id)
            if live is not None:
                updated[id(live.state)] = live.state
                aborts += self._accept(live, output, now)
        return list(updated.values()), aborts

    def _accept(self, live: _Live, output: EngineOutput, now: float) -> list[str]:
        live.state.num_cached_tokens = max(live.state.num_cached_tokens, output.num_cached_tokens)
        if output.token_ids:
            self._count(live, now)
        aborts = [output.id] if live.sequence.accept(output) else []
        if live.sequence.finish_reason is not None:
            self._finish(live, output.id)
        if output.finish_reason == "error":
            aborts += self._fail(live.state, output.error or "the engine gave no reason")
        return aborts

    def _count(self, live: _Live, now: float) -> None:
        if live.last_token_at is None:
            self._started(live)
            if self._timings is not None:
                self._timings.first(now - live.state.arrived)
        elif self._timings is not None:
            self._timings.between(now - live.last_token_at)
        live.last_token_at = now

    def _started(self, live: _Live) -> None:
        live.state.num_unstarted -= 1
        self.num_waiting -= 1

    def _finish(self, live: _Live, engine_id: str) -> None:
        del self._live[engine_id]
        live.state.num_unfinished -= 1
        if live.last_token_at is None:  # ended without a token
            self._started(live)

    def _fail(self, state: RequestState, error: str) -> list[str]:
        """One sequence failed: the request fails."""
        state.error = error
        for sequence in state.sequences:
            sequence.finish_reason = sequence.finish_reason or "error"
        state.num_unfinished = 0
        return self.remove(state)
