"""An engine that answers by script: no model, but real tokens, steps, ends and deaths."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import jackfield
from jackfield.engine.messages import EngineOutput, EngineOutputs, EngineRequest, EngineStats, TokenLogprobs
from jackfield.engine.model_info import ModelInfo
from jackfield.frontend.engine_client import EngineDeadError
from jackfield.frontend.tokenizer import Tokenizer

TOKENIZER = Path(jackfield.__file__).parent / "embedded"
ANSWER = "Hello, 🙂 wörld. This goes on."


class _Running:
    def __init__(self, request: EngineRequest, answer: list[int]) -> None:
        self.request = request
        self.left = deque(answer)
        self.num_given = 0


class ScriptedEngine:
    """Gives every sequence the tokens of `answer` and then the end token, one a step; `seconds` is a step's length.

    With `holds` no step runs until `release`. A prompt of the tokens `[3, 3, 3]` makes its sequence fail.
    """

    startup_text = "A scripted engine."

    def __init__(self, tokenizer: Tokenizer, *, answer: str = ANSWER, seconds: float = 0.0, repeat: int = 1) -> None:
        (end,) = tokenizer.encode("<|endoftext|>", add_special_tokens=False)
        self.model = ModelInfo(
            name="scripted",
            max_model_len=512,
            vocab_size=tokenizer.hf.vocab_size,
            eos_token_ids=frozenset({end}),
            tokenizer=str(TOKENIZER),
        )
        self.requests: list[EngineRequest] = []
        self.aborted: list[str] = []
        self.is_closed = False
        self._answer = [*tokenizer.encode(answer) * repeat, end]
        self._seconds = seconds
        self._running: dict[str, _Running] = {}
        self._death: str | None = None
        self._work = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()

    @property
    def is_alive(self) -> bool:
        return self._death is None

    @property
    def num_running(self) -> int:
        return len(self._running)

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def die(self, reason: str) -> None:
        self._death = reason
        self._work.set()
        self._released.set()

    async def add(self, requests: list[EngineRequest]) -> None:
        self._check()
        for request in requests:
            self.requests.append(request)
            self._running[request.id] = _Running(request, self._answer)
        self._work.set()

    async def abort(self, ids: list[str]) -> None:
        self._check()
        self.aborted += ids
        for id in ids:
            self._running.pop(id, None)

    async def outputs(self) -> EngineOutputs:
        while True:
            await self._work.wait()
            await self._released.wait()
            await asyncio.sleep(self._seconds)
            self._check()
            if self._running:
                return self._step()
            self._work.clear()

    async def stats(self) -> EngineStats:
        self._check()
        return EngineStats(
            num_running=len(self._running),
            num_free_blocks=90,
            num_total_blocks=100,
            num_prompt_tokens=7,
            num_draft_tokens=6,
            num_accepted_tokens=4,
        )

    async def close(self, drain: bool) -> None:
        self.is_closed = True
        self.die("the engine was closed")

    def _check(self) -> None:
        if self._death is not None:
            raise EngineDeadError(self._death)

    def _step(self) -> EngineOutputs:
        outputs = EngineOutputs([], [], [])
        for id, running in list(self._running.items()):
            request, token = running.request, running.left.popleft()
            running.num_given += 1
            if request.prompt_token_ids == [3, 3, 3]:
                outputs.others.append(EngineOutput(id, [], finish_reason="error", error="the step failed"))
                del self._running[id]
                continue
            ends = token in request.stop_token_ids
            is_last = ends or running.num_given == request.sampling.max_tokens or not running.left
            if running.num_given > 1 and not is_last and request.sampling.logprobs is None:
                outputs.ids.append(id)
                outputs.token_ids.append(token)
                continue
            outputs.others.append(
                EngineOutput(
                    id,
                    [token],
                    self._logprobs(request, token),
                    ("stop" if ends else "length") if is_last else None,
                    token if ends else None,
                    num_cached_tokens=2,
                )
            )
            if is_last:
                del self._running[id]
        return outputs

    def _logprobs(self, request: EngineRequest, token: int) -> list[TokenLogprobs] | None:
        count = request.sampling.logprobs
        if count is None:
            return None
        return [TokenLogprobs(-0.25, 1, [token, *range(40, 40 + count - 1)][:count], [-0.25 - i for i in range(count)])]
