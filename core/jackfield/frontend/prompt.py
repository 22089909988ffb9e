"""What a user may give as a prompt, in the forms that vLLM's users know."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jackfield.field_error import FieldError

_FORMS = 'a string, {"prompt": "..."}, {"prompt_token_ids": [...]}, a list of token ids, or a list of these'
_KEYS = {"prompt", "prompt_token_ids", "cache_salt"}


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt: text or token ids, never both. Requests with different salts share nothing of the prefix cache."""

    text: str | None = None
    token_ids: list[int] | None = None
    add_special_tokens: bool = True  # False when the text holds them already, as a chat template's does
    cache_salt: str = ""


def parse_prompts(prompts: Any) -> list[Prompt]:
    """One or many prompts, in order. Raises FieldError for anything that is none."""
    if isinstance(prompts, (str, Mapping)) or _is_token_list(prompts):
        return [parse_prompt(prompts)]
    if not isinstance(prompts, Sequence):
        raise FieldError("prompts", f"prompts must be {_FORMS}; got {type(prompts).__name__}")
    return [parse_prompt(prompt) for prompt in prompts]


def parse_prompt(prompt: Any) -> Prompt:
    """One prompt. Raises FieldError for anything that is none."""
    if isinstance(prompt, str):
        return Prompt(text=prompt)
    if isinstance(prompt, Mapping):
        return _from_mapping(prompt)
    if isinstance(prompt, Sequence):
        return Prompt(token_ids=_integers(prompt))
    raise FieldError("prompts", f"a prompt must be {_FORMS}; got {type(prompt).__name__}")


def _from_mapping(prompt: Mapping[str, Any]) -> Prompt:
    unknown = sorted(set(prompt) - _KEYS)
    if unknown:
        raise FieldError("prompts", f"a prompt's keys are {', '.join(sorted(_KEYS))}; got {', '.join(unknown)} too")
    if prompt.get("prompt_token_ids") is not None:
        return Prompt(token_ids=_integers(prompt["prompt_token_ids"]), cache_salt=prompt.get("cache_salt") or "")
    if not isinstance(prompt.get("prompt"), str):
        raise FieldError("prompts", "a prompt needs a string under 'prompt' or a list under 'prompt_token_ids'")
    return Prompt(text=prompt["prompt"], cache_salt=prompt.get("cache_salt") or "")


def _is_token_list(prompts: Any) -> bool:
    return isinstance(prompts, Sequence) and bool(prompts) and all(hasattr(token, "__index__") for token in prompts)


def _integers(ids: Sequence[Any]) -> list[int]:
    try:
        return list(map(operator.index, ids))
    except TypeError as error:
        raise FieldError("prompts", f"prompt token ids must be integers: {error}") from error
