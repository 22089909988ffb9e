"""Counts of tokens, as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from jackfield.frontend.processor import RequestState


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens, those that the prefix cache held."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """A prompt counts once, however many answers it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def count_usage(states: Sequence[RequestState]) -> Usage:
    """What all requests of one submission used."""
    prompt = sum(len(state.request.prompt_token_ids) for state in states)
    completion = sum(len(sequence.token_ids) for state in states for sequence in state.sequences)
    cached = sum(state.num_cached_tokens for state in states)
    return Usage(prompt, completion, prompt + completion, PromptTokensDetails(cached))
