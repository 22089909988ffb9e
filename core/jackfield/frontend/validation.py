"""Checks of a request against the model. A bad one raises FieldError before the engine hears of it."""

from __future__ import annotations

from collections.abc import Iterable

from jackfield.engine.model_info import ModelInfo
from jackfield.field_error import FieldError
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams


def check_prompt(ids: list[int], model: ModelInfo) -> None:
    """A prompt must hold a token, leave room for one more, and use the model's vocabulary."""
    if not ids:
        raise FieldError("prompt", "The prompt is empty: it must hold at least one token.")
    if len(ids) >= model.max_model_len:
        raise FieldError(
            "prompt",
            f"The prompt has {len(ids)} tokens; this model's context holds {model.max_model_len}, "
            "one of which must be left for the answer. Shorten the prompt or serve with a larger --max-model-len.",
            code="context_length_exceeded",
        )
    _check_vocabulary("prompt", ids, model)


def check_sampling(sampling: SamplingParams, model: ModelInfo) -> None:
    """Token ids among the sampling parameters must be the model's, and min_tokens must fit into the context."""
    _check_vocabulary("logit_bias", sampling.logit_bias or (), model)
    _check_vocabulary("allowed_token_ids", sampling.allowed_token_ids or (), model)
    _check_vocabulary("stop_token_ids", sampling.stop_token_ids or (), model)


def check_lora(lora: LoRARequest | None, model: ModelInfo) -> None:
    """An adapter may be named where the engine serves them."""
    if lora is not None and not model.serves_lora:
        raise FieldError(
            "lora_request",
            f"The request names the LoRA adapter {lora.lora_name!r}; this engine serves none. Start it with "
            "--enable-lora.",
        )


def check_priority(priority: int) -> None:
    """Priorities are 32-bit numbers."""
    if not -(2**31) <= priority < 2**31:
        raise FieldError("priority", f"priority must be between {-(2**31)} and {2**31 - 1}; got {priority}")


def resolve_max_tokens(sampling: SamplingParams, prompt_len: int, model: ModelInfo) -> int:
    """How many tokens the answer may have: what was asked for, but never past the end of the context."""
    room = model.max_model_len - prompt_len
    if sampling.min_tokens > room:
        raise FieldError(
            "min_tokens",
            f"min_tokens is {sampling.min_tokens}; after a prompt of {prompt_len} tokens the context of "
            f"{model.max_model_len} has room for {room}.",
        )
    return room if sampling.max_tokens is None else min(sampling.max_tokens, room)


def _check_vocabulary(field: str, ids: Iterable[int], model: ModelInfo) -> None:
    outside = next((token for token in ids if not 0 <= token < model.vocab_size), None)
    if outside is not None:
        raise FieldError(field, f"{field} holds token id {outside}; this model's go from 0 to {model.vocab_size - 1}.")
