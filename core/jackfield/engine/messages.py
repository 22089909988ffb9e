"""What crosses between the frontend and the engine: frozen structs, the same in one process or over ZeroMQ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams

FinishReason = Literal["stop", "length", "abort", "error"]


class EngineRequest(msgspec.Struct, frozen=True):
    """One sequence to generate. A user's request with n > 1 becomes n of these, with seeds of their own.

    `sampling.seed` and `sampling.max_tokens` are resolved (never None), `stop_token_ids` here holds every id that ends
    the sequence (the model's own end tokens included unless `ignore_eos`). Stop strings are the frontend's affair.
    """

    id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    stop_token_ids: frozenset[int] = frozenset()
    priority: int = 0  # lower is served first
    cache_salt: str = ""  # mixed into the hashes of cached blocks: requests with different salts share nothing
    lora: LoRARequest | None = None  # the adapter that it runs with


class TokenLogprobs(msgspec.Struct, frozen=True):
    """Natural-log probabilities for one sampled token: its own, its rank (1 is the likeliest), the likeliest `ids`."""

    logprob: float
    rank: int
    top_ids: list[int] = []
    top_logprobs: list[float] = []


class EngineOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one step added to one sequence. The last one of a sequence has a `finish_reason`."""

    id: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None  # one per token id, when asked for
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None  # the token id that ended the sequence
    error: str | None = None  # with finish_reason "error"
    num_cached_tokens: int = 0  # prompt tokens that came from the prefix cache; in a sequence's first and last output


class EngineOutputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that one commit yields, at most one entry a sequence.

    Two columns hold the common case, a running sequence that got one plain token: `token_ids[i]` belongs to `ids[i]`.
    `others` holds whatever needs more words: first outputs with cached tokens, log-probabilities, ends, errors. Columns
    cost a fraction of a struct each; at 256 sequences that is most of the host's time for a step. Read only: `ids` may
    be shared by batches.
    """

    ids: list[str] = []
    token_ids: list[int] = []
    others: list[EngineOutput] = []

    def each(self) -> Iterator[EngineOutput]:
        """All of it as structs, for callers to whom plainness matters more than microseconds."""
        for id, token_id in zip(self.ids, self.token_ids, strict=True):
            yield EngineOutput(id, [token_id])
        yield from self.others


class BucketCount(msgspec.Struct, frozen=True):
    """Launches of one bucket since the engine's start. `bucket` "any": all that ran uncaptured, at their own size."""

    bucket: str
    launches: int
    misses: int
    real_tokens: int
    padded_tokens: int  # what ran, the real ones included


class EngineStats(msgspec.Struct, frozen=True):
    """A reading of the engine, for metrics and tests. Counters grow from the engine's start."""

    num_running: int = 0
    num_waiting: int = 0
    num_free_blocks: int = 0  # of the fullest KV group; blocks that only the prefix cache holds count as free
    num_total_blocks: int = 0  # of that group, without the null block
    num_steps: int = 0
    num_preemptions: int = 0
    num_prefix_queried_tokens: int = 0
    num_prefix_hit_tokens: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_draft_tokens: int = 0  # guessed and verified
    num_accepted_tokens: int = 0  # of those: that were what the model said
    num_late_captures: int = 0  # captures after the warm-up
    num_late_compilations: int = 0  # programs that the platform compiled after it, whoever wanted them
    buckets: list[BucketCount] = []
