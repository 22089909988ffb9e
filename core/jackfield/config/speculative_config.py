"""What a user may say about speculative decoding, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from jackfield.config.json_fields import ConfigError
from jackfield.config.model_config import ModelConfig

Method = Literal["draft_model", "ngram"]
MAX_DRAFTS = 16
_OF_NGRAM = {"prompt_lookup_max", "prompt_lookup_min"}


class SpeculativeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `speculative_config`, spelled as vLLM spells them, and `platform`: where the draft model runs."""

    num_speculative_tokens: int
    method: Method | None = None  # None: "draft_model" where a model is named
    model: str | None = None  # a folder
    platform: str | None = None  # None: the target's
    prompt_lookup_max: int = 5
    prompt_lookup_min: int = 2

    @property
    def drafts_by_model(self) -> bool:
        """Whether a second model drafts."""
        return self.model is not None

    def describe(self) -> str:
        """A few words for the start-up text."""
        who = f"{self.model} drafts" if self.model else f"prompt lookup by up to {self.prompt_lookup_max} tokens drafts"
        return f"{who} {self.num_speculative_tokens} tokens"


def speculative_config(given: dict[str, Any] | None) -> SpeculativeConfig | None:
    """Check what was given; ConfigError names the field, what was found and what is allowed."""
    if given is None:
        return None
    try:
        config = msgspec.convert(given, SpeculativeConfig)
    except msgspec.ValidationError as error:
        fields = ", ".join(SpeculativeConfig.__struct_fields__)
        raise ConfigError(f"speculative_config: {error}; its fields are {fields}") from None
    _check_method(config)
    if config.drafts_by_model and (idle := sorted(given.keys() & _OF_NGRAM)):
        raise ConfigError(
            f'speculative_config: {", ".join(idle)} is for "method": "ngram"; leave it out where a model drafts'
        )
    if not 1 <= config.num_speculative_tokens <= MAX_DRAFTS:
        raise ConfigError(
            f"speculative_config: num_speculative_tokens must be 1 to {MAX_DRAFTS}; got {config.num_speculative_tokens}"
        )
    if not 1 <= config.prompt_lookup_min <= config.prompt_lookup_max:
        raise ConfigError(
            "speculative_config: prompt_lookup_min must be at least 1 and at most prompt_lookup_max; got "
            f"{config.prompt_lookup_min} and {config.prompt_lookup_max}"
        )
    return config


def _check_method(config: SpeculativeConfig) -> None:
    if config.method == "ngram" and (config.model or config.platform):
        raise ConfigError('speculative_config: "ngram" takes neither model nor platform; leave them out, or the method')
    if config.method != "ngram" and config.model is None:
        raise ConfigError(
            'speculative_config: wanted a draft model\'s folder in "model", or "method": "ngram"; found neither'
        )


def check_vocabularies(target: ModelConfig, draft: ModelConfig, draft_path: Path) -> None:
    """ConfigError, with both numbers, when ids of one model mean nothing to the other."""
    if target.vocab_size != draft.vocab_size:
        raise ConfigError(
            f"speculative_config: the target has a vocabulary of {target.vocab_size}, the draft model in {draft_path} "
            f"one of {draft.vocab_size}; they must be the same tokens. Use another draft model, or "
            '{"method": "ngram"}'
        )
