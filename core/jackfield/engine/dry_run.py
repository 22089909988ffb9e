"""What a full step takes of a device's memory beside weights and cache, found by running one."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from jackfield.config.engine_config import EngineConfig
from jackfield.config.json_fields import ConfigError
from jackfield.engine.kv_sizing import activation_bytes
from jackfield.engine.step import Start, Step, TableUpdates
from jackfield.models.interface import Build, Model
from jackfield.runner.attention_groups import AttentionGroup
from jackfield.runner.model_runner import ModelRunner
from jackfield.runner.slot_tables import SlotTables
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.platform import Platform

# every way of sampling that takes memory of its own
_SAMPLING = SamplingParams(temperature=1.0, top_k=50, top_p=0.9, min_p=0.01, frequency_penalty=0.5, logprobs=1, seed=0)
_NOTHING = np.zeros(0, np.int32)


def full_step_bytes(
    config: EngineConfig, platform: Platform, build: Build, model: Model, groups: Sequence[AttentionGroup]
) -> int:
    """The most bytes that a step takes, of all ranks the most; ConfigError when there is no room for one.

    Measured where the platform can watch its memory and runs any shape, otherwise an estimate. A user who gave the
    cache its size is not kept waiting; drafts are not tried, so that with them the estimate stands.
    """
    if platform.capabilities().static_shapes:
        return activation_bytes(config) + SlotTables.num_bytes(config.max_num_seqs, config.model.vocab_size)
    if config.kv_cache_memory or config.num_drafts:
        return activation_bytes(config)
    gc.collect()  # what is freed while steps run would hide what they take
    watched = platform.watch_memory(build.device)
    if watched is None:
        return activation_bytes(config)
    block_size = groups[0].backend.block_size
    limits = Limits(config.max_num_seqs, config.max_num_batched_tokens, config.max_model_len, block_size)
    try:
        # with the null block alone: all tokens are written to it, and answers mean nothing
        runner = ModelRunner(model, platform, groups, [1] * len(groups), limits, buckets=BucketPlan())
        for step in _steps(config, len(groups)):
            forward = runner.launch(step)
            if build.comm.rank:
                runner.follow(forward)
            else:
                runner.sample(forward).wait()
        platform.synchronize(build.device)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"A step of {config.max_num_batched_tokens} tokens and {config.max_num_seqs} sequences does not fit beside "
            f"the weights ({error}). Lower max_num_seqs or max_num_batched_tokens"
        ) from error
    taken = torch.tensor([watched()], device=build.device)
    return int(build.comm.all_gather(taken).max())


def _steps(config: EngineConfig, num_groups: int) -> Iterator[Step]:
    """As many tokens as a step may have: as the fewest prompts, and as the most."""
    total, longest = config.max_num_batched_tokens, min(config.max_model_len, config.max_num_batched_tokens)
    fewest = -(-total // longest)
    for index, count in enumerate(dict.fromkeys((min(fewest, config.max_num_seqs), config.max_num_seqs))):
        lengths = np.full(count, min(total // count, longest), np.int32)
        prompts = tuple(np.zeros(length, np.int32).tobytes() for length in lengths)
        yield Step(
            id=index,
            slots=np.arange(count, dtype=np.int32),
            num_computed=np.zeros(count, np.int32),
            num_new=lengths,
            samples=np.ones(count, bool),
            tokens=np.zeros(int(lengths.sum()), np.int32),
            num_decode=count if lengths[0] == 1 else 0,
            tables=(TableUpdates(_NOTHING, _NOTHING, _NOTHING),) * num_groups,
            starts=tuple(
                Start(slot, _SAMPLING, frozenset(), len(prompt) // 4, prompt) for slot, prompt in enumerate(prompts)
            ),
        )
