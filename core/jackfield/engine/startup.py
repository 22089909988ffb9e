"""What an engine says of itself when it starts: one paragraph of what was chosen and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jackfield.config.engine_config import EngineConfig
from jackfield.engine.kv_sizing import KVSize
from jackfield.runner.attention_groups import AttentionGroup
from jackfield_platforms.discovery import Found
from jackfield_platforms.platform import Memory, Platform


def startup_text(
    found: Found,
    platform: Platform,
    config: EngineConfig,
    groups: Sequence[AttentionGroup],
    size: KVSize,
    memory: Memory,
) -> str:
    """Platform, model, attention, memory, blocks, the loop; a line each."""
    rules = platform.capabilities().scheduling
    blocks = " + ".join(
        f"{count - 1:,} blocks of {group.backend.block_size}"
        for group, count in zip(groups, size.num_blocks, strict=True)
    )
    lines = [
        f"platform   {found.name} ({found.dist} {found.dist_version}): {platform.describe()}",
        f"model      {config.model.architecture} in {config.dtype}, weights {config.quantization}, "
        f"context {size.max_model_len:,} of {config.model.context_len:,} tokens",
        *(f"attention  {_attention(group)}" for group in groups),
        f"memory     {memory.free / 2**30:.2f} of {memory.total / 2**30:.2f} GiB free ({memory.limit})",
        f"KV cache   {blocks} tokens, {config.kv_dtype}, {size.num_bytes / 2**20:,.0f} MiB, "
        f"prefixes {'cached' if config.enable_prefix_caching else 'not cached'}",
        f"loop       {'overlapped' if config.overlap and rules.max_in_flight > 1 else 'plain'}, "
        f"at most {config.max_num_seqs} sequences and {config.max_num_batched_tokens} tokens a step",
    ]
    if config.tensor_parallel_size > 1:
        how = f"{config.tensor_parallel_size} processes with a part of every layer each, over {platform.collectives()}"
        lines.insert(2, f"ranks      {how}; memory and KV cache are those of one")
    return "\n".join(lines)


def captures_text(num_captures: int, num_bytes: int) -> str:
    """What was captured before the first request, as one more line."""
    return f"\nbuckets    {num_captures:,} sizes captured, {num_bytes / 2**20:,.1f} MiB"


def elastic_text(answers: Mapping[str, str | None], num_bytes: int) -> str:
    """Which programs run in one call at any size, and which do not and why, as one more line."""
    parts = [f"{name} in one call" if why is None else f"{name} in parts ({why})" for name, why in answers.items()]
    return f"\ngraphs     {', '.join(parts)}; {num_bytes / 2**20:,.1f} MiB"


def _attention(group: AttentionGroup) -> str:
    backend = group.backend
    where = f"{len(group.layers)} layers" + (f" with a window of {group.window}" if group.window else "")
    why = "; ".join(f"not {name}: {reason}" for name, reason in group.refusals)
    return f"{backend.name} for {where}" + (f" ({why})" if why else "")
