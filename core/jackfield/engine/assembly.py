"""Putting an engine together: platform, configuration, model, attention groups, cache, runner, scheduler, loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from jackfield.config.engine_config import EngineConfig, resolve
from jackfield.config.json_fields import ConfigError
from jackfield.config.model_config import load_model_config
from jackfield.config.options import EngineOptions
from jackfield.config.speculative_config import SpeculativeConfig
from jackfield.embedded import EMBEDDED_MODEL, EMBEDDED_NAME
from jackfield.engine.draft_assembly import (
    DraftModel,
    check_draft,
    draft_options,
    draft_runner,
    draft_text,
    size_together,
)
from jackfield.engine.dry_run import full_step_bytes
from jackfield.engine.engine import Engine
from jackfield.engine.kv_sizing import KVSize, agreed_memory
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.origin import Origin
from jackfield.engine.other_ranks import OtherRanks
from jackfield.engine.ranks_executor import RanksExecutor
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.startup import captures_text, elastic_text, startup_text
from jackfield.engine.warm_up import bucket_plan, warm_up
from jackfield.engine.weight_formats import format_by_layer
from jackfield.layers.experts import expert_layers
from jackfield.layers.fused_decoder import fuse_layers
from jackfield.layers.lora_slots import add_slots
from jackfield.loader.dummy import dummy_model
from jackfield.loader.folder import checkpoint_bytes, model_folder
from jackfield.loader.load import empty_model, load_model
from jackfield.models.interface import Build, Model
from jackfield.models.registry import ModelRegistry
from jackfield.runner.attention_groups import AttentionGroup, make_groups
from jackfield.runner.model_runner import ModelRunner
from jackfield.speculation.draft_model import ModelDrafter
from jackfield.speculation.drafter import Drafter
from jackfield.speculation.ngram import NgramDrafter
from jackfield_platforms.bucket import Limits
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.discovery import Found
from jackfield_platforms.linear import TorchLinear, torch_dtype
from jackfield_platforms.loading import Plugins, load
from jackfield_platforms.ops import OpSpec
from jackfield_platforms.ops import resolve as resolve_ops
from jackfield_platforms.platform import Memory, Platform, ServingSpec

_HASH_UNIT = 16  # tokens
Connect = Callable[[Platform, int], Communicator]  # of a platform and the number of ranks


class Blueprint(msgspec.Struct, frozen=True):
    """Everything that is settled before a weight is read: whose parts are used, the configuration, what layers get."""

    plugins: Plugins
    platform: Platform
    registry: ModelRegistry
    config: EngineConfig
    build: Build

    def empty_model(self) -> Model:
        """The model without weights: its layers know what they need."""
        return empty_model(self.config.model, self.build, self.registry)


class Assembled(msgspec.Struct, frozen=True):
    """One rank's part of the model, ready to run steps."""

    runner: ModelRunner
    groups: tuple[AttentionGroup, ...]
    size: KVSize
    memory: Memory  # of which the cache was taken
    captured: dict[str, str | None]  # programs captured for any size: why not, or None
    draft_size: KVSize | None = None


def _alone(platform: Platform, size: int) -> Communicator:
    return platform.communicator()


def draw_blueprint(found: Found, options: EngineOptions, connect: Connect = _alone) -> Blueprint:
    """Load the plugins of the platform that was found, and settle options, model and platform with each other.

    `connect` is called when everything is settled, and waits for the other ranks.
    """
    plugins = load(found.name)
    platform = plugins.platform(found.name)
    registry = ModelRegistry().extended(plugins.models())
    path = model_folder(options.model) if options.model else EMBEDDED_MODEL
    config = resolve(options, load_model_config(path, registry), path, platform.capabilities())
    comm = connect(platform, config.tensor_parallel_size)
    return Blueprint(plugins, platform, registry, config, _build(config, platform, plugins, comm))


def assemble(
    found: Found, options: EngineOptions, origin: Origin, *, progress: bool, draft_found: Found | None = None
) -> Engine:
    """An engine on the platform that was found, of which this process becomes rank 0, with a draft model on another
    platform that was. The only function that sees every part.
    """
    others = OtherRanks(options, origin)
    with others.guarded():
        blueprint = draw_blueprint(found, options, others.connect)
        draft = None if draft_found is None else _draft(draft_found, options, blueprint, progress=progress)
        made = make_runner(blueprint, draft, progress=progress)
    config, platform, runner = blueprint.config, blueprint.platform, made.runner
    text = startup_text(found, platform, config, made.groups, made.size, made.memory)
    if runner.num_planned:
        text += captures_text(runner.num_planned, runner.captured_bytes)
    if made.captured:
        text += elastic_text(made.captured, runner.captured_bytes)
    if config.speculation is not None:
        text += draft_text(draft, config.speculation, made.draft_size)
    return Engine(
        Scheduler(_scheduler_config(config, platform, made.groups, made.size)),
        runner if config.tensor_parallel_size == 1 else RanksExecutor(runner, others),
        _model_info(options, config, made.size),
        depth=platform.capabilities().scheduling.max_in_flight if config.overlap else 1,
        startup_text=text,
        drafter=_drafter(config.speculation, draft, made.draft_size, progress=progress),
    )


@torch.inference_mode()
def make_runner(blueprint: Blueprint, draft: DraftModel | None = None, *, progress: bool) -> Assembled:
    """Load this rank's part of the model, size its cache as the other ranks do, capture what is planned.

    In the mode that steps run in: not every device can view a tensor that was made in the other.
    """
    platform, config = blueprint.platform, blueprint.config
    model, groups = _loaded(blueprint, progress=progress)
    step_bytes = full_step_bytes(config, platform, blueprint.build, model, groups)
    memory = agreed_memory(lambda: platform.memory(blueprint.build.device), blueprint.build)
    size, draft_size = size_together(blueprint, groups, draft, memory, step_bytes)
    block_size = groups[0].backend.block_size
    limits = Limits(
        config.max_num_seqs, config.max_num_batched_tokens, size.max_model_len, block_size, config.num_drafts
    )
    runner = ModelRunner(
        model, platform, groups, size.num_blocks, limits, buckets=bucket_plan(config, platform, limits)
    )
    captured = warm_up(runner, shown=progress)
    return Assembled(runner, groups, size, memory, captured, draft_size)


@torch.inference_mode()
def _loaded(blueprint: Blueprint, *, progress: bool) -> tuple[Model, tuple[AttentionGroup, ...]]:
    """The model with its weights, and its attention groups."""
    platform, config, build = blueprint.platform, blueprint.config, blueprint.build
    model = _model(config, build, blueprint.registry, progress=progress)
    if build.lora is not None:
        add_slots(model)
    fuse_layers(model, platform.fuse)
    for experts in expert_layers(model):
        experts.choose(platform)
    backends = blueprint.plugins.attention_backends(platform)
    needs = model.attention_needs()
    groups = make_groups(needs, backends, config.block_size, device=build.device, ops=build.ops)
    _check(platform, config, groups)
    return model, groups


def _draft(found: Found, options: EngineOptions, target: Blueprint, *, progress: bool) -> DraftModel:
    assert target.config.speculation is not None
    blueprint = draw_blueprint(found, draft_options(options, target.config.speculation, found.name))
    check_draft(target, blueprint)
    return DraftModel(blueprint, *_loaded(blueprint, progress=progress))


def _drafter(
    speculation: SpeculativeConfig | None, draft: DraftModel | None, size: KVSize | None, *, progress: bool
) -> Drafter | None:
    if speculation is None:
        return None
    num_drafts = speculation.num_speculative_tokens
    if draft is None or size is None:
        low, high = speculation.prompt_lookup_min, speculation.prompt_lookup_max
        return NgramDrafter(num_drafts=num_drafts, min_ngram=low, max_ngram=high)
    config = _scheduler_config(draft.blueprint.config, draft.blueprint.platform, draft.groups, size)
    return ModelDrafter(draft_runner(draft, size, progress=progress), config, num_drafts=num_drafts)


def _build(config: EngineConfig, platform: Platform, plugins: Plugins, comm: Communicator) -> Build:
    platform_ops = platform.linear_ops(checkpoint_bytes(config.model_path))
    return Build(
        config=config.model,
        dtype=torch_dtype(config.dtype),
        kv_dtype=torch_dtype(config.kv_dtype),
        device=platform.device(comm.rank),
        capabilities=platform.capabilities(),
        ops=resolve_ops(platform.ops(), OpSpec(config.dtype)),
        linear_ops=(*platform_ops, TorchLinear(), TorchDequantLinear()),
        comm=comm,
        quant=format_by_layer(config, plugins.quant_methods()),
        layers=range(config.model.num_layers),
        lora=config.lora,
        max_model_len=config.max_model_len,
    )


def _model(config: EngineConfig, build: Build, registry: ModelRegistry, *, progress: bool) -> Model:
    if config.dummy_weights:
        return dummy_model(config.model, build, seed=config.seed, registry=registry)
    return load_model(config.model, build, config.model_path, progress=progress, registry=registry)


def _check(platform: Platform, config: EngineConfig, groups: tuple[AttentionGroup, ...]) -> None:
    serving = ServingSpec(
        dtype=config.dtype,
        kv_dtype=config.kv_dtype,
        block_size=groups[0].backend.block_size,
        max_model_len=config.max_model_len,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        tensor_parallel_size=config.tensor_parallel_size,
    )
    objections = platform.check(serving)
    if objections:
        raise ConfigError("\n".join([f"Platform {platform.name!r} objects:", *(f"  {line}" for line in objections)]))


def _scheduler_config(
    config: EngineConfig, platform: Platform, groups: tuple[AttentionGroup, ...], size: KVSize
) -> SchedulerConfig:
    sizes, rules = [group.backend.block_size for group in groups], platform.capabilities().scheduling
    if config.num_drafts:
        rules = msgspec.structs.replace(rules, max_in_flight=1)
    return SchedulerConfig(
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=size.max_model_len,
        groups=tuple(
            KVGroup(group.window, block_size, num_blocks)
            for group, block_size, num_blocks in zip(groups, sizes, size.num_blocks, strict=True)
        ),
        rules=rules,
        num_drafts=config.num_drafts,
        enable_prefix_caching=config.enable_prefix_caching,
        hash_unit=math.gcd(_HASH_UNIT, *sizes),
        max_loras=0 if config.lora is None else config.lora.max_loras,
        target_step_seconds=config.target_step_seconds,
    )


def _model_info(options: EngineOptions, config: EngineConfig, size: KVSize) -> ModelInfo:
    return ModelInfo(
        name=options.model or EMBEDDED_NAME,
        max_model_len=size.max_model_len,
        vocab_size=config.model.vocab_size,
        eos_token_ids=frozenset(config.model.eos_token_ids),
        tokenizer=str(Path(config.tokenizer_path)),
        default_sampling=dict(config.model.default_sampling),
        serves_lora=config.lora is not None,
    )
