"""Answers as they are made, from an engine in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from jackfield.config.options import EngineOptions
from jackfield.frontend.frontend import Ask, Frontend
from jackfield.frontend.prompt import Prompt, parse_prompt
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.lora_request import LoRARequest
from jackfield.outputs import RequestOutput
from jackfield.sampling_params import SamplingParams


class AsyncLLM:
    """Several requests at once, each an asynchronous iterator. Lives in one event loop; `shutdown` ends the engine."""

    def __init__(self, options: EngineOptions | None = None, *, frontend: Frontend | None = None) -> None:
        """The engine process starts with the first call that needs it, unless there is a `frontend` already."""
        self._options, self.frontend = options or EngineOptions(), frontend
        self._starting = asyncio.Lock()
        self._ids = itertools.count()
        self._running: dict[str, Submission] = {}

    @classmethod
    def from_engine_args(cls, engine_args: EngineOptions) -> AsyncLLM:
        """vLLM's spelling; `jackfield.AsyncEngineArgs` is `EngineOptions`."""
        return cls(engine_args)

    @classmethod
    async def from_options(cls, options: EngineOptions) -> AsyncLLM:
        """Start an engine process and wait until it serves. Raises EngineDeadError with what kept it from starting."""
        llm = cls(options)
        await llm.start()
        return llm

    async def start(self) -> Frontend:
        """The engine's frontend; starts the process if there is none."""
        async with self._starting:
            if self.frontend is None:
                from jackfield.engine.client import start_engine  # here, since it takes ZeroMQ

                client = await start_engine(self._options)
                self.frontend = Frontend(client, Tokenizer.load(client.model.tokenizer), seed=self._options.seed)
            return self.frontend

    async def generate(
        self,
        prompt: Any,
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        *,
        priority: int = 0,
        lora_request: LoRARequest | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """Yield all that came so far, each time something came. Leaving the loop early frees what the engine holds.

        Raises FieldError for a bad request, EngineDeadError when the engine has ended, RequestFailedError when it
        failed this request.
        """
        id = request_id if request_id is not None else f"request-{next(self._ids)}"
        frontend = await self.start()
        sampling = sampling_params or SamplingParams(**frontend.model.default_sampling)
        parsed = prompt if isinstance(prompt, Prompt) else parse_prompt(prompt)
        submission = await frontend.submit(
            Ask(id=id, prompts=[parsed], sampling=sampling, priority=priority, lora=lora_request)
        )
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

    async def get_tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return (await self.start()).tokenizer.hf

    async def get_default_sampling_params(self) -> SamplingParams:
        """What the model's authors recommend, where they said so."""
        return SamplingParams(**(await self.start()).model.default_sampling)

    async def shutdown(self) -> None:
        """End the engine process."""
        if self.frontend is not None:
            await self.frontend.close()
