"""Putting an engine together: platform, configuration, model, attention groups, cache, runner, scheduler, loop."""

from __future__ import annotations

import math
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
from jackfield.engine.engine import Engine
from jackfield.engine.kv_sizing import KVSize
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.startup import captures_text, startup_text
from jackfield.engine.warm_up import bucket_plan, warm_up
from jackfield.engine.weight_formats import format_by_layer
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
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.discovery import Found
from jackfield_platforms.linear import TorchLinear, torch_dtype
from jackfield_platforms.loading import Plugins, load
from jackfield_platforms.ops import OpSpec
from jackfield_platforms.ops import resolve as resolve_ops
from jackfield_platforms.platform import Platform, ServingSpec

_HASH_UNIT = 16  # tokens


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


def draw_blueprint(found: Found, options: EngineOptions) -> Blueprint:
    """Load the plugins of the platform that was found, and settle options, model and platform with each other."""
    plugins = load(found.name)
    platform = plugins.platform(found.name)
    registry = ModelRegistry().extended(plugins.models())
    path = model_folder(options.model) if options.model else EMBEDDED_MODEL
    config = resolve(options, load_model_config(path, registry), path, platform.capabilities())
    return Blueprint(plugins, platform, registry, config, _build(config, platform, plugins))


def assemble(found: Found, options: EngineOptions, *, progress: bool, draft_found: Found | None = None) -> Engine:
    """An engine on the platform that was found, with a draft model on another one that was. The only function that sees
    every part.
    """
    blueprint = draw_blueprint(found, options)
    draft_blueprint = None if draft_found is None else _draft_blueprint(draft_found, options, blueprint)
    platform, config = blueprint.platform, blueprint.config
    model, groups = _loaded(blueprint, progress=progress)
    draft = None
    if draft_blueprint is not None:
        draft = DraftModel(draft_blueprint, *_loaded(draft_blueprint, progress=progress))
    memory = platform.memory(blueprint.build.device)
    size, draft_size = size_together(blueprint, groups, draft)
    block_size = groups[0].backend.block_size
    limits = Limits(
        config.max_num_seqs, config.max_num_batched_tokens, size.max_model_len, block_size, config.num_drafts
    )
    runner = ModelRunner(
        model, platform, groups, size.num_blocks, limits, buckets=bucket_plan(config, platform, limits)
    )
    warm_up(runner, shown=progress)
    text = startup_text(found, platform, config, groups, size, memory)
    if runner.num_planned:
        text += captures_text(runner.num_planned, runner.captured_bytes)
    if config.speculation is not None:
        text += draft_text(draft, config.speculation, draft_size)
    return Engine(
        Scheduler(_scheduler_config(config, platform, groups, size)),
        runner,
        _model_info(options, config, size),
        depth=platform.capabilities().scheduling.max_in_flight if config.overlap else 1,
        startup_text=text,
        drafter=_drafter(config.speculation, draft, draft_size, progress=progress),
    )


def _loaded(blueprint: Blueprint, *, progress: bool) -> tuple[Model, tuple[AttentionGroup, ...]]:
    """The model with its weights, and its attention groups."""
    platform, config, build = blueprint.platform, blueprint.config, blueprint.build
    model = _model(config, build, blueprint.registry, progress=progress)
    backends = blueprint.plugins.attention_backends(platform)
    needs = model.attention_needs()
    groups = make_groups(needs, backends, config.block_size, device=build.device, ops=build.ops)
    _check(platform, config, groups)
    return model, groups


def _draft_blueprint(found: Found, options: EngineOptions, target: Blueprint) -> Blueprint:
    assert target.config.speculation is not None
    blueprint = draw_blueprint(found, draft_options(options, target.config.speculation, found.name))
    check_draft(target, blueprint)
    return blueprint


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


def _build(config: EngineConfig, platform: Platform, plugins: Plugins) -> Build:
    platform_ops = platform.linear_ops(checkpoint_bytes(config.model_path))
    return Build(
        config=config.model,
        dtype=torch_dtype(config.dtype),
        kv_dtype=torch_dtype(config.kv_dtype),
        device=platform.device(),
        capabilities=platform.capabilities(),
        ops=resolve_ops(platform.ops(), OpSpec(config.dtype)),
        linear_ops=(*platform_ops, TorchLinear(), TorchDequantLinear()),
        comm=platform.communicator(),
        quant=format_by_layer(config, plugins.quant_methods()),
        layers=range(config.model.num_layers),
        max_model_len=config.max_model_len,
    )


@torch.inference_mode()
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
    )
