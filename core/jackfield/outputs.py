"""What a user gets back, under the names that vLLM's users know."""

from __future__ import annotations

import msgspec


class Logprob(msgspec.Struct, frozen=True):
    """One token's natural-log probability. `rank` 1 is the likeliest; None where it is not known."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


class CompletionOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One of the `n` answers to a prompt.

    `stop_reason` is the stop string or the user's stop token id that ended it; None for the model's own end token.
    `cumulative_logprob` and `logprobs` are None unless `SamplingParams.logprobs` was given.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.finish_reason is not None


class RequestOutput(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt and its answers, so far or in full."""

    request_id: str
    prompt: str | None  # None when token ids were given
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int = 0  # prompt tokens that the prefix cache held


class GenerationError(RuntimeError):
    """The engine failed some requests. `outputs` holds every answer, the failed ones with finish_reason "error"."""

    def __init__(self, errors: dict[str, str], outputs: list[RequestOutput]) -> None:
        first_id, first = next(iter(errors.items()))
        super().__init__(f"{len(errors)} of {len(outputs)} requests failed; the first, {first_id!r}: {first}")
        self.errors = errors
        self.outputs = outputs
