"""Putting a drafter together: for a draft model a second platform object, configuration, model, cache and runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import torch

from jackfield.config.json_fields import ConfigError
from jackfield.config.options import EngineOptions
from jackfield.config.speculative_config import SpeculativeConfig, check_vocabularies
from jackfield.engine.kv_groups import blocks_for
from jackfield.engine.kv_sizing import KVSize, activation_bytes, blocks_bytes, free_bytes, size_kv_cache
from jackfield.engine.warm_up import bucket_plan, warm_up
from jackfield.models.interface import Model
from jackfield.runner.attention_groups import AttentionGroup
from jackfield.runner.model_runner import ModelRunner
from jackfield_platforms.bucket import Limits
from jackfield_platforms.platform import Memory

if TYPE_CHECKING:
    from jackfield.engine.assembly import Blueprint

_CAUGHT_UP = 1  # after a step whose drafts were all accepted a row has two tokens to compute, otherwise one


class DraftModel(msgspec.Struct, frozen=True, eq=False):
    """A draft model in its place, before its cache is sized."""

    blueprint: Blueprint
    model: Model
    groups: tuple[AttentionGroup, ...]


def draft_options(options: EngineOptions, speculation: SpeculativeConfig, platform: str) -> EngineOptions:
    """The options of the draft model's side. What is asked of the engine as a whole holds there too; what names the
    target's files and sizes does not.
    """
    return msgspec.structs.replace(
        options,
        model=speculation.model,
        platform=platform,
        tokenizer=None,
        quantization=None,
        max_model_len=None,
        block_size=None,
        kv_cache_memory=None,
        enable_prefix_caching=False,
        overlap="auto",
        speculative_config=None,
        enable_lora=False,
        buckets=None,
        record_steps=None,
    )


def check_draft(target: Blueprint, draft: Blueprint) -> None:
    """ConfigError when the second model cannot draft for the first."""
    check_vocabularies(target.config.model, draft.config.model, draft.config.model_path)
    if not draft.platform.capabilities().scheduling.chunked:
        raise ConfigError(
            f"speculative_config: platform {draft.platform.name!r} takes prompts whole, so that a draft model cannot "
            "go on behind computed tokens there; name another platform"
        )


def size_together(
    target: Blueprint, groups: tuple[AttentionGroup, ...], draft: DraftModel | None, memory: Memory, step_bytes: int
) -> tuple[KVSize, KVSize | None]:
    """The target's cache and the draft model's. On one platform they share the bytes so that both hold the same number
    of tokens; on two the draft model's holds as many tokens as the target's, or what its platform has room for.
    """
    if draft is None:
        return size_kv_cache(target.config, groups, memory, step_bytes=step_bytes), None
    if draft.blueprint.platform.name != target.platform.name:
        size = size_kv_cache(target.config, groups, memory, step_bytes=step_bytes)
        return size, _size_elsewhere(draft, groups, size)
    both = (*groups, *draft.groups)
    both_steps = step_bytes + activation_bytes(draft.blueprint.config)
    together = size_kv_cache(target.config, both, memory, step_bytes=both_steps)
    return (
        _part(together, groups, together.num_blocks[: len(groups)]),
        _part(together, draft.groups, together.num_blocks[len(groups) :], draft.blueprint.config.max_model_len),
    )


def _part(
    size: KVSize, groups: Sequence[AttentionGroup], num_blocks: tuple[int, ...], longest: int | None = None
) -> KVSize:
    return KVSize(num_blocks, blocks_bytes(groups, num_blocks), min(size.max_model_len, longest or size.max_model_len))


def _size_elsewhere(draft: DraftModel, groups: Sequence[AttentionGroup], size: KVSize) -> KVSize:
    blueprint = draft.blueprint
    num_tokens = max(
        (count - 1) * group.backend.block_size for group, count in zip(groups, size.num_blocks, strict=True)
    )
    wanted = [blocks_for(num_tokens, group.backend.block_size) + 1 for group in draft.groups]
    memory, step_bytes = blueprint.platform.memory(blueprint.build.device), activation_bytes(blueprint.config)
    free = free_bytes(blueprint.config, memory, step_bytes)
    config = msgspec.structs.replace(
        blueprint.config,
        kv_cache_memory=min(blocks_bytes(draft.groups, wanted), free),
        max_model_len=min(size.max_model_len, blueprint.config.max_model_len),
        must_fit_max_model_len=True,
    )
    return size_kv_cache(config, draft.groups, memory, step_bytes=step_bytes)


@torch.inference_mode()
def draft_runner(draft: DraftModel, size: KVSize, *, progress: bool) -> ModelRunner:
    """The draft model's own runner, warmed up."""
    config, platform = draft.blueprint.config, draft.blueprint.platform
    limits = Limits(
        config.max_num_seqs,
        config.max_num_batched_tokens,
        size.max_model_len,
        draft.groups[0].backend.block_size,
        num_drafts=_CAUGHT_UP,
    )
    plan = bucket_plan(config, platform, limits)
    runner = ModelRunner(draft.model, platform, draft.groups, size.num_blocks, limits, buckets=plan)
    warm_up(runner, shown=progress)
    return runner


def draft_text(draft: DraftModel | None, speculation: SpeculativeConfig, size: KVSize | None) -> str:
    """Who drafts, where, and with how many blocks, as one more line of the start-up text."""
    if draft is None or size is None:
        return f"\ndrafts     {speculation.describe()}"
    platform = draft.blueprint.platform
    blocks = " + ".join(
        f"{count - 1:,} blocks of {group.backend.block_size}"
        for group, count in zip(draft.groups, size.num_blocks, strict=True)
    )
    where = f"on {platform.name} in {draft.blueprint.config.dtype}"
    return f"\ndrafts     {speculation.describe()} {where}; {blocks} tokens, {size.num_bytes / 2**20:,.0f} MiB"
