"""What the scheduler is given at start-up, frozen."""

from __future__ import annotations

import msgspec

from jackfield_platforms.capabilities import SchedulingRules


class KVGroup(msgspec.Struct, frozen=True):
    """Layers that share block tables. `num_blocks` is what the backend allocates, the null block included."""

    window: int | None
    block_size: int  # tokens
    num_blocks: int


class SchedulerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits, rules and memory of one engine. Raises ValueError naming the numbers that do not fit together."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    groups: tuple[KVGroup, ...]
    rules: SchedulingRules = SchedulingRules()
    enable_prefix_caching: bool = True
    hash_unit: int = 16  # tokens; block sizes are multiples of it where prefixes are cached
    awaited_prefix: int = 128  # tokens, at least, for which a prompt waits while others with them compute them
    max_loras: int = 0  # LoRA adapters in use at once
    target_step_seconds: float = 0.2  # how long a step with running streams may take for a prompt's sake
    num_drafts: int = 0  # the most draft tokens that a step verifies for one sequence
    max_decode_slowdown: float = 4.0  # ... or this many decode steps, whichever is longer

    @property
    def caches_prefixes(self) -> bool:
        """Whether computed blocks are kept for later prompts: asked for, and the platform can start behind them."""
        return self.enable_prefix_caching and self.rules.prefix_reuse

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("groups must hold at least one KVGroup")
        for name in ("max_num_seqs", "max_num_batched_tokens", "hash_unit", "awaited_prefix"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.max_model_len < 2:
            raise ValueError(
                f"max_model_len must be at least 2, a prompt token and a new one; got {self.max_model_len}"
            )
        if self.rules.max_in_flight < 1:
            raise ValueError(f"rules.max_in_flight must be at least 1; got {self.rules.max_in_flight}")
        if self.num_drafts and (self.rules.max_in_flight > 1 or not self.rules.chunked):
            raise ValueError(
                f"num_drafts is {self.num_drafts}: drafts need rules.max_in_flight 1 (they follow from accepted tokens)"
                f" and rules.chunked (they are computed behind computed tokens); got {self.rules}"
            )
        self._check_budget()
        if self.caches_prefixes:
            self._check_block_sizes()

    def _check_budget(self) -> None:
        budget, rules = self.max_num_batched_tokens, self.rules
        if budget < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({budget}) is less than max_num_seqs ({self.max_num_seqs}): a step could not"
                " hold one token a sequence; raise the first or lower the second"
            )
        if not rules.chunked and budget < self.max_model_len:
            raise ValueError(
                f"max_num_batched_tokens ({budget}) is less than max_model_len ({self.max_model_len}), and this"
                " platform takes prompts whole; raise the first or lower the second"
            )
        room = budget - (self.max_num_seqs - 1 if rules.mixed else 0)
        if rules.chunked and room < min(rules.chunk_multiple, self.max_model_len):
            raise ValueError(
                f"max_num_batched_tokens ({budget}) leaves {room} tokens beside {self.max_num_seqs - 1} running"
                f" sequences, and this platform takes prompts in multiples of {rules.chunk_multiple}; raise it or lower"
                " max_num_seqs"
            )

    def _check_block_sizes(self) -> None:
        for group in self.groups:
            if group.block_size % self.hash_unit:
                raise ValueError(
                    f"block_size {group.block_size} is not a multiple of hash_unit {self.hash_unit}; change one of"
                    " them, or turn prefix caching off"
                )
