"""Everything between a user and an engine process: requests in, text out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from jackfield.engine.messages import EngineStats
from jackfield.engine.model_info import ModelInfo
from jackfield.field_error import FieldError
from jackfield.frontend.engine_client import EngineClient, EngineDeadError
from jackfield.frontend.processor import OutputProcessor, RequestState, Timings
from jackfield.frontend.prompt import Prompt
from jackfield.frontend.requests import Request, RequestBuilder
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams

_LONG_TEXT = 4096  # characters; longer ones are tokenised in a thread, so that running streams do not wait

logger = logging.getLogger(__name__)


class OverloadedError(RuntimeError):
    """As many sequences wait as may."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked at once."""

    id: str
    prompts: Sequence[Prompt]
    sampling: SamplingParams
    priority: int = 0
    lora: LoRARequest | None = None
    stream: bool = True  # False: the reader wants the whole only


class Frontend:
    """Feeds one engine process and hands out what it brings. Lives in one event loop."""

    def __init__(
        self,
        client: EngineClient,
        tokenizer: Tokenizer,
        *,
        seed: int = 0,
        max_waiting: int | None = None,
        timings: Timings | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.dead: EngineDeadError | None = None
        self._client = client
        self._builder = RequestBuilder(tokenizer, client.model, seed)
        self._processor = OutputProcessor(timings)
        self._max_waiting = max_waiting
        self._live: set[Submission] = set()
        self._pump: asyncio.Task[None] | None = None
        self._aborts: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    @property
    def model(self) -> ModelInfo:
        """The model that the engine runs."""
        return self._client.model

    @property
    def num_live(self) -> int:
        """Submissions that were not read to the end."""
        return len(self._live)

    async def submit(self, ask: Ask) -> Submission:
        """Tokenise, check and queue. Raises FieldError, OverloadedError, EngineDeadError."""
        self._check_room(len(ask.prompts) * ask.sampling.n)
        requests = [await self._build(ask, index) for index in range(len(ask.prompts))]
        self._check_room(len(requests) * ask.sampling.n)
        submission = Submission(self._abort, stream=ask.stream)
        submission.states = [
            RequestState(request, self._builder, first_index=index * ask.sampling.n, wake=submission.wake)
            for index, request in enumerate(requests)
        ]
        self._start_pump()
        self._live.add(submission)
        try:
            for state in submission.states:
                self._processor.add(state)
            await self._client.add([sequence for request in requests for sequence in request.sequences])
        except BaseException:
            submission.abort()
            raise
        return submission

    async def stats(self) -> EngineStats:
        """The engine's counters. Raises EngineDeadError."""
        if self.dead is not None:
            raise self.dead
        return await self._client.stats()

    def fail_all(self, error: Exception) -> None:
        """Give every reader `error`, and free what the engine holds for them."""
        for submission in list(self._live):
            submission.fail(error)
            submission.abort()

    async def close(self, *, drain: bool = False) -> None:
        """End the engine process."""
        if self._pump is not None and not drain:
            self._pump.cancel()
        await self._client.close(drain)
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self.fail_all(EngineDeadError("the engine was closed"))
        self._threads.shutdown(wait=False)

    async def _build(self, ask: Ask, index: int) -> Request:
        prompt = ask.prompts[index]
        if prompt.text is not None and len(prompt.text) > _LONG_TEXT:
            ids = await asyncio.get_running_loop().run_in_executor(self._threads, self._builder.tokenize, prompt)
        else:
            ids = self._builder.tokenize(prompt)
        id = ask.id if len(ask.prompts) == 1 else f"{ask.id}/{index}"
        return self._builder.build(id, prompt, ids, ask.sampling, priority=ask.priority, lora=ask.lora)

    def _check_room(self, num_new: int) -> None:
        if self.dead is not None:
            raise self.dead
        if self._max_waiting is None:
            return
        if num_new > self._max_waiting:
            raise FieldError("prompt", f"Asked for {num_new} sequences at once; at most {self._max_waiting} may wait.")
        if self._processor.num_waiting + num_new > self._max_waiting:
            raise OverloadedError(
                f"{self._processor.num_waiting} sequences wait, and {num_new} more would exceed {self._max_waiting}."
            )

    def _abort(self, submission: Submission) -> None:
        if submission not in self._live:
            return
        self._live.remove(submission)
        ids = [id for state in submission.states for id in self._processor.remove(state)]
        if ids and self.dead is None:
            task = asyncio.get_running_loop().create_task(self._abort_in_engine(ids))
            self._aborts.add(task)
            task.add_done_callback(self._aborts.discard)

    async def _abort_in_engine(self, ids: list[str]) -> None:
        try:
            await self._client.abort(ids)
        except EngineDeadError as error:
            self._die(error)

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                updated, aborts = self._processor.process(await self._client.outputs())
                for state in updated:
                    assert state.wake is not None
                    state.wake()
                if aborts:
                    await self._client.abort(aborts)
                await asyncio.sleep(0)  # readers first, even when more is there
        except EngineDeadError as error:
            self._die(error)
        except Exception as error:
            logger.exception("Reading the engine's outputs failed")
            self._die(EngineDeadError(f"reading the engine's outputs failed: {error!r}"))

    def _die(self, error: EngineDeadError) -> None:
        if self.dead is None:
            logger.error("The engine is dead: %s", error)
            self.dead = error
        self.fail_all(error)
