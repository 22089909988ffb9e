"""/v1/completions: what may be asked, and the shape of its answers."""

from __future__ import annotations

from typing import Any

import msgspec

from jackfield.frontend.prompt import Prompt
from jackfield.sampling_params import SamplingParams
from jackfield.server.errors import ApiError
from jackfield.server.protocol_sampling import SamplingFields, refuse
from jackfield.server.usage import Usage

_REFUSALS: dict[str, tuple[tuple[Any, ...], str]] = {
    "suffix": (("",), "Put all text into prompt."),
    "response_format": (({"type": "text"},), "Answers are plain text: describe the format in the prompt."),
}


class CompletionRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body of /v1/completions."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None
    add_special_tokens: bool | None = None
    best_of: int | None = None
    suffix: str | None = None
    response_format: dict[str, Any] | None = None

    def check(self) -> None:
        """Raises ApiError for what we do not serve."""
        refuse(self, _REFUSALS)
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ApiError(400, f"best_of must equal n ({self.n or 1}); got {self.best_of}.", param="best_of")
        if self.echo and self.logprobs is not None:
            raise ApiError(400, "echo with logprobs is not supported: the prompt has no logprobs.", param="echo")

    def prompts(self) -> list[Prompt]:
        """Every prompt, in order. Raises ApiError for an empty list or a mixed one."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [self._text(prompt)]
        if not prompt:
            raise ApiError(400, "prompt is an empty list: give at least one.", param="prompt")
        if all(isinstance(part, str) for part in prompt):
            return [self._text(part) for part in prompt]  # type: ignore[arg-type]
        if all(isinstance(part, int) for part in prompt):
            return [self._tokens(prompt)]  # type: ignore[arg-type]
        if all(isinstance(part, list) for part in prompt):
            return [self._tokens(part) for part in prompt]  # type: ignore[arg-type]
        raise ApiError(400, "prompt mixes strings, token ids and lists: give one kind.", param="prompt")

    def sampling_params(self, defaults: dict[str, Any]) -> SamplingParams:
        """As OpenAI has it, an answer is 16 tokens long unless max_tokens says otherwise. Raises FieldError."""
        return self.sampling({"max_tokens": 16, **defaults}, logprobs=self.logprobs)

    def _text(self, text: str) -> Prompt:
        return Prompt(
            text=text, add_special_tokens=self.add_special_tokens is not False, cache_salt=self.cache_salt or ""
        )

    def _tokens(self, ids: list[int]) -> Prompt:
        return Prompt(token_ids=ids, cache_salt=self.cache_salt or "")


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """One entry a token in each list."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    """One answer."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
