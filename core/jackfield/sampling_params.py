"""What a user may ask of sampling, under the names that vLLM's users know."""

from __future__ import annotations

from typing import Any

import msgspec

from jackfield.field_error import FieldError

MAX_LOGPROBS = 20  # alternatives beside a sampled token, as with OpenAI


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen and when to stop.

    `temperature` 0 is greedy. `top_k` 0 or -1 keeps all. `seed` None takes one from the engine's seed and the request's
    order. `logprobs`: how many alternatives to return beside each sampled token (0: the sampled one only; None: none).
    Raises FieldError (a ValueError) naming the field and what is allowed.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    seed: int | None = None
    max_tokens: int | None = 16  # None: to the end of the context
    min_tokens: int = 0
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    logprobs: int | None = None
    skip_special_tokens: bool = True
    detokenize: bool = True

    def __post_init__(self) -> None:
        for field, (kind, low, high) in _RANGES.items():
            value = getattr(self, field)
            if value is not None:
                _check_range(field, value, kind, (low, high))
        _check_stop(self.stop)
        if self.stop and not self.detokenize:
            raise FieldError("stop", "stop needs the text: it must be None when detokenize is False")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise FieldError(
                "min_tokens", f"min_tokens ({self.min_tokens}) must not exceed max_tokens ({self.max_tokens})"
            )
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise FieldError("allowed_token_ids", "allowed_token_ids must not be empty")
        for token, bias in (self.logit_bias or {}).items():
            _check_range(f"logit_bias[{token}]", bias, (int, float), (-100, 100))
        if self.n > 1 and self.temperature == 0:
            raise FieldError("n", "n must be 1 when temperature is 0: greedy answers would all be equal")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings as a tuple, however they were given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        return self.presence_penalty != 0 or self.frequency_penalty != 0 or self.repetition_penalty != 1


def _check_range(field: str, value: Any, kind: tuple[type[Any], ...], bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not isinstance(value, kind):
        raise FieldError(field, f"{field} must be {'an integer' if kind == (int,) else 'a number'}; got {value!r}")
    if not low <= value <= high:  # NaN fails too
        allowed = f"at least {low:g}" if high == _MOST and value < low else f"between {low:.10g} and {high:.10g}"
        raise FieldError(field, f"{field} must be {allowed}; got {value!r}")


def _check_stop(stop: Any) -> None:
    if stop is None:
        return
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise FieldError("stop", f"stop must be a string or a list of strings; got {stop!r}")
    if not all(texts):
        raise FieldError("stop", "stop must not hold an empty string")


_MOST = 2**31 - 1  # counts beyond it mean nothing, and int32 arrays hold them
_INTEGER, _NUMBER = (int,), (int, float)
_RANGES: dict[str, tuple[tuple[type, ...], float, float]] = {
    "n": (_INTEGER, 1, 128),
    "temperature": (_NUMBER, 0.0, 100.0),
    "top_p": (_NUMBER, 1e-6, 1.0),
    "top_k": (_INTEGER, -1, _MOST),
    "min_p": (_NUMBER, 0.0, 1.0),
    "presence_penalty": (_NUMBER, -2.0, 2.0),
    "frequency_penalty": (_NUMBER, -2.0, 2.0),
    "repetition_penalty": (_NUMBER, 1e-3, 100.0),
    "seed": (_INTEGER, -(2**63), 2**63 - 1),
    "max_tokens": (_INTEGER, 1, _MOST),
    "min_tokens": (_INTEGER, 0, _MOST),
    "logprobs": (_INTEGER, 0, MAX_LOGPROBS),
}
