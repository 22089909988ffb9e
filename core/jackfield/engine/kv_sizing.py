"""How much memory the KV cache gets, and how long a sequence may then be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import torch

from jackfield.config.engine_config import EngineConfig
from jackfield.config.json_fields import ConfigError
from jackfield.config.model_config import ModelConfig
from jackfield.engine.kv_groups import GroupNeed, most_blocks, split_kv_memory
from jackfield.models.interface import Build
from jackfield.runner.attention_groups import AttentionGroup
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.platform import Memory


class KVSize(msgspec.Struct, frozen=True):
    """Blocks of each group (the null block included), bytes in all, and the longest sequence that they serve."""

    num_blocks: tuple[int, ...]
    num_bytes: int
    max_model_len: int


def agreed_memory(read: Callable[[], Memory], build: Build) -> Memory:
    """What `read` gives once every rank has loaded its weights, with no more free than the poorest rank has.

    So every rank sizes its cache alike. Ranks that draw on the same bytes share them.
    """
    comm = build.comm
    if comm.size == 1:
        return read()
    comm.all_reduce(torch.ones(1, device=build.device))
    memory = read()
    free = torch.tensor([memory.free // (comm.size if memory.shared else 1)], device=build.device)
    return msgspec.structs.replace(memory, free=int(comm.all_gather(free).min()))


def size_kv_cache(config: EngineConfig, groups: Sequence[AttentionGroup], memory: Memory, *, step_bytes: int) -> KVSize:
    """Split the bytes among the groups; ConfigError with the numbers when not even one sequence fits.

    A user who did not ask for a length gets the longest that fits, up to the model's own. `step_bytes` are what a full
    step takes beside weights and cache.
    """
    num_bytes = config.kv_cache_memory or free_bytes(config, memory, step_bytes)
    needs = [GroupNeed(group.block_bytes, group.window, group.backend.block_size) for group in groups]
    max_model_len = config.max_model_len
    if not config.must_fit_max_model_len:
        max_model_len = _longest(num_bytes, needs, config)
    try:
        num_blocks = split_kv_memory(
            num_bytes, needs, config.max_num_seqs, config.max_num_batched_tokens, max_model_len
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return KVSize(num_blocks, blocks_bytes(groups, num_blocks), max_model_len)


def blocks_bytes(groups: Sequence[AttentionGroup], num_blocks: Sequence[int]) -> int:
    """What that many blocks of each group take."""
    return sum(group.block_bytes * count for group, count in zip(groups, num_blocks, strict=True))


def activation_bytes(config: EngineConfig) -> int:
    """An upper estimate of what a full step needs beside weights and cache.

    Per token the widest moment of a layer: the residual, its norm, q, k, v and the attention's output, or the gate, up
    and product of the MLP, or what a token's experts are given, make and return, each once more for a conversion. Per
    sampled row: the logits in the model's dtype and two float32 copies.
    """
    model, item = config.model, torch_dtype(config.dtype).itemsize
    num_samples = min(config.max_num_seqs * (1 + config.num_drafts), config.max_num_batched_tokens)
    per_token = 2 * model.hidden_size + max(model.attention_size, 3 * model.intermediate_size, _experts_size(model))
    return config.max_num_batched_tokens * per_token * 2 * item + num_samples * model.vocab_size * (item + 8)


def _experts_size(model: ModelConfig) -> int:
    experts = model.experts
    return 0 if experts is None else experts.top * (4 * model.hidden_size + 3 * experts.inner_size)


def free_bytes(config: EngineConfig, memory: Memory, step_bytes: int) -> int:
    """What is left for blocks beside a full step; ConfigError when nothing is."""
    free = int(memory.free * config.memory_utilization) - step_bytes
    if free <= 0:
        raise ConfigError(
            f"No memory is left for the KV cache: {memory.free / 2**30:.2f} GiB free ({memory.limit}), "
            f"{config.memory_utilization:.0%} of it to be used, {step_bytes / 2**30:.2f} GiB for a step "
            f"of {config.max_num_batched_tokens} tokens and {config.max_num_seqs} sequences. Lower max_num_seqs or "
            "max_num_batched_tokens, or give kv_cache_memory"
        )
    return free


def _longest(num_bytes: int, needs: Sequence[GroupNeed], config: EngineConfig) -> int:
    """The longest sequence whose blocks, and the null blocks, fit; halving finds it because size grows with length."""

    def size(length: int) -> int:
        chunk = config.max_num_batched_tokens
        return sum(
            need.block_bytes * (1 + most_blocks(length, chunk, window=need.window, block_size=need.block_size))
            for need in needs
        )

    low, high = min(64, config.max_model_len), config.max_model_len
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= num_bytes else (low, middle - 1)
    return low
