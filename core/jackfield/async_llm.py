"""Answers as they are made, from an engine in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

from jackfield.config.options import EngineOptions
from jackfield.frontend.frontend import Ask, Frontend
from jackfield.frontend.prompt import Prompt, parse_prompt
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.outputs import RequestOutput
from jackfield.sampling_params import SamplingParams


class AsyncLLM:
    """Several requests at once, each an asynchronous iterator. Lives in one event loop; `shutdown` ends the engine."""

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend
        self._ids = itertools.count()
        self._running: dict[str, Submission] = {}

    @classmethod
    async def from_options(cls, options: EngineOptions) -> AsyncLLM:
        """Start an engine process and wait until it serves."""
        from jackfield.engine.client import start_engine  # here, since it takes ZeroMQ

        client = await start_engine(options)
        return cls(Frontend(client, Tokenizer.load(client.model.tokenizer), seed=options.seed))

    async def generate(
        self,
        prompt: Any,
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        *,
        priority: int = 0,
    ) -> AsyncIterator[RequestOutput]:
        """Yield all that came so far, each time something came. Leaving the loop early frees what the engine holds.

        Raises FieldError for a bad request, EngineDeadError when the engine has ended, RequestFailedError when it
        failed this request.
        """
        id = request_id if request_id is not None else f"request-{next(self._ids)}"
        sampling = sampling_params or self.get_default_sampling_params()
        parsed = prompt if isinstance(prompt, Prompt) else parse_prompt(prompt)
        submission = await self.frontend.submit(Ask(id=id, prompts=[parsed], sampling=sampling, priority=priority))
        self._running[id] = submission
        try:
            (state,) = submission.states
            while await submission.deltas():
                yield state.output()
        finally:
            self._running.pop(id, None)
            submission.abort()

    async def abort(self, request_id: str) -> None:
        """End a request; its iterator stops. An unknown id is ignored."""
        submission = self._running.get(request_id)
        if submission is not None:
            submission.cancel()

    def get_tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self.frontend.tokenizer.hf

    def get_default_sampling_params(self) -> SamplingParams:
        """What the model's authors recommend, where they said so."""
        return SamplingParams(**self.frontend.model.default_sampling)

    async def shutdown(self) -> None:
        """End the engine process."""
        await self.frontend.close()
