"""The fields that both endpoints share, and what we say to those that we do not serve."""

from __future__ import annotations

from typing import Any

import msgspec

from jackfield.sampling_params import SamplingParams
from jackfield.server.errors import ApiError


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against traffic analysis: we add none either way


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's sampling fields, then those that vLLM added. None: the model's default, then OpenAI's."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: int | None = None
    cache_salt: str | None = None

    # known, and without any effect on the answer
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, defaults: dict[str, Any], **chosen: Any) -> SamplingParams:
        """Sampling parameters: what the request says, then `defaults`. Raises FieldError."""
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options is for stream: true only.", param="stream_options")
        said = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        said.update({name: value for name, value in chosen.items() if value is not None})
        return SamplingParams(**{**defaults, **said})


_SAMPLING = tuple(name for name in SamplingParams.__struct_fields__ if name in SamplingFields.__struct_fields__)


def refuse(request: msgspec.Struct, refusals: dict[str, tuple[tuple[Any, ...], str]]) -> None:
    """Raises ApiError for a field that we do not serve, unless it holds a value under which nothing changes.

    `refusals`: by field, its harmless values and what to do instead.
    """
    for field, (harmless, advice) in refusals.items():
        value = getattr(request, field)
        if value is not None and value not in harmless:
            raise ApiError(400, f"{field} is not supported. {advice}", param=field, code="unsupported_parameter")
