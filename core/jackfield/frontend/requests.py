"""From what a user asked to what the engine runs."""

from __future__ import annotations

import random

import msgspec

from jackfield.engine.messages import EngineRequest
from jackfield.engine.model_info import ModelInfo
from jackfield.frontend.prompt import Prompt
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.frontend.validation import check_lora, check_priority, check_prompt, check_sampling, resolve_max_tokens
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams

_SEED_STRIDE = 0x9E3779B97F4A7C15  # odd and far from any small number, so that seeds 1, 2, 3 with n > 1 do not meet


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A user's request: one prompt and its n sequences."""

    id: str
    prompt: str | None
    prompt_token_ids: list[int]
    sampling: SamplingParams  # as the user gave it
    sequences: list[EngineRequest]


class RequestBuilder:
    """Makes requests. Owns the seeds of those that bring none: they depend on the engine's seed and the order alone."""

    def __init__(self, tokenizer: Tokenizer, model: ModelInfo, seed: int) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self._seeds = random.Random(seed)

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids; safe to call from another thread."""
        if prompt.token_ids is not None:
            return prompt.token_ids
        assert prompt.text is not None
        return self.tokenizer.encode(prompt.text, add_special_tokens=prompt.add_special_tokens)

    def build(
        self,
        id: str,
        prompt: Prompt,
        ids: list[int],
        sampling: SamplingParams,
        *,
        priority: int = 0,
        lora: LoRARequest | None = None,
    ) -> Request:
        """Check everything and resolve seeds, stop ids and the longest answer. Raises FieldError."""
        check_lora(lora, self.model)
        check_prompt(ids, self.model)
        check_sampling(sampling, self.model)
        check_priority(priority)
        max_tokens = resolve_max_tokens(sampling, len(ids), self.model)
        seed = self._seeds.getrandbits(63) if sampling.seed is None else sampling.seed
        stop_ids = frozenset(sampling.stop_token_ids or ())
        if not sampling.ignore_eos:
            stop_ids |= self.model.eos_token_ids
        sequences = [
            EngineRequest(
                id=f"{id}#{index}",
                prompt_token_ids=ids,
                sampling=msgspec.structs.replace(
                    sampling, n=1, seed=sequence_seed(seed, index), max_tokens=max_tokens, stop=None
                ),
                stop_token_ids=stop_ids,
                priority=priority,
                lora=lora,
                cache_salt=prompt.cache_salt,
            )
            for index in range(sampling.n)
        ]
        return Request(id=id, prompt=prompt.text, prompt_token_ids=ids, sampling=sampling, sequences=sequences)


def sequence_seed(seed: int, index: int) -> int:
    """The seed of a request's `index`-th sequence, a signed 64-bit number; the first one's is the request's own."""
    mixed = (seed + index * _SEED_STRIDE) % 2**64
    return mixed - 2**64 if mixed >= 2**63 else mixed
