"""The engine's configuration: frozen, complete, and made in one place out of options, model and platform."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from jackfield.config.json_fields import ConfigError
from jackfield.config.lora_limits import LoraLimits
from jackfield.config.model_config import ModelConfig
from jackfield.config.options import EngineOptions
from jackfield.config.speculative_config import SpeculativeConfig, speculative_config
from jackfield_platforms.capabilities import Capabilities


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is decided before weights are read. Nothing in it is "auto".

    Memory is not in it: how many KV blocks there are is known only when the weights are in place, see
    `jackfield.engine.kv_sizing`.
    """

    model: ModelConfig
    model_path: Path
    tokenizer_path: Path
    dtype: str
    kv_dtype: str
    quantization: str  # the weight format by name
    tensor_parallel_size: int
    max_model_len: int  # an upper bound; less when memory holds less and the user did not insist
    must_fit_max_model_len: bool  # whether the user insisted
    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int | None  # None: what the attention backend prefers
    kv_cache_memory: int | None
    memory_utilization: float
    enable_prefix_caching: bool
    lora: LoraLimits | None  # None: requests may not name adapters
    dummy_weights: bool
    overlap: bool
    speculation: SpeculativeConfig | None
    buckets: Path | None
    forbid_compile: bool
    record_steps: Path | None
    target_step_seconds: float  # infinite: no limit
    seed: int

    @property
    def num_drafts(self) -> int:
        """The most draft tokens that a step verifies for one sequence; 0 without speculation."""
        return 0 if self.speculation is None else self.speculation.num_speculative_tokens


_PLAIN = "unquantized"
_COUNTS = (
    "tensor_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
    "kv_cache_memory",
    "max_loras",
    "max_lora_rank",
)
_SERVER_STEP_SECONDS = 0.2  # streams pause no longer than this for a prompt; docs/scheduling.md says why this long


def resolve(options: EngineOptions, model: ModelConfig, path: Path, capabilities: Capabilities) -> EngineConfig:
    """Decide everything, or raise ConfigError naming the option, what was found and what is allowed."""
    _check_numbers(options)
    dtype = _dtype(options.dtype, model.dtype, capabilities.dtypes, "dtype")
    longest = model.context_len
    if options.max_model_len is not None and options.max_model_len > longest:
        raise ConfigError(
            f"max_model_len ({options.max_model_len}) must not exceed the model's context of {longest} tokens"
        )
    speculation = _speculation(options, capabilities)
    return EngineConfig(
        model=model,
        model_path=path,
        tokenizer_path=Path(options.tokenizer) if options.tokenizer else path,
        dtype=dtype,
        kv_dtype=_dtype(options.kv_cache_dtype, dtype, capabilities.kv_dtypes, "kv_cache_dtype"),
        quantization=_quantization(options, model),
        tensor_parallel_size=_ranks(options.tensor_parallel_size, model, capabilities),
        max_model_len=options.max_model_len or longest,
        must_fit_max_model_len=options.max_model_len is not None,
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=options.max_num_batched_tokens,
        block_size=options.block_size,
        kv_cache_memory=options.kv_cache_memory,
        memory_utilization=options.memory_utilization or capabilities.memory_utilization,
        enable_prefix_caching=options.enable_prefix_caching and capabilities.scheduling.prefix_reuse,
        lora=_lora(options),
        dummy_weights=options.load_format == "dummy",
        overlap=_overlaps(options, capabilities, speculation),
        speculation=speculation,
        buckets=None if options.buckets is None else Path(options.buckets),
        forbid_compile=options.forbid_compile,
        record_steps=None if options.record_steps is None else Path(options.record_steps),
        target_step_seconds=_step_seconds(options.target_step_seconds),
        seed=options.seed,
    )


def _speculation(options: EngineOptions, capabilities: Capabilities) -> SpeculativeConfig | None:
    config = speculative_config(options.speculative_config)
    if config is not None and not capabilities.scheduling.chunked:
        raise ConfigError(
            "speculative_config: this platform takes prompts whole, so that it cannot verify several tokens behind "
            "computed ones; leave speculative_config out"
        )
    if config is not None and options.tensor_parallel_size > 1:
        raise ConfigError(
            f"speculative_config is served on one rank; tensor_parallel_size is {options.tensor_parallel_size}. Leave "
            "one of them out"
        )
    return config


def _overlaps(options: EngineOptions, capabilities: Capabilities, speculation: SpeculativeConfig | None) -> bool:
    """Drafts follow from accepted tokens, which the host must have seen: with them the loop is the plain one."""
    if speculation is None:
        return capabilities.asynchronous if options.overlap == "auto" else options.overlap == "on"
    if options.overlap == "on":
        raise ConfigError("overlap must be auto or off with speculative_config: drafting waits for each step's tokens")
    return False


def _step_seconds(wanted: float | None) -> float:
    if wanted is None:
        return _SERVER_STEP_SECONDS
    if not wanted >= 0:
        raise ConfigError(f"target_step_seconds must be at least 0; got {wanted}")
    return wanted or math.inf


def _ranks(size: int, model: ModelConfig, capabilities: Capabilities) -> int:
    """Every rank must get as many heads and as much of the MLP; fewer key heads than ranks are held more than once."""
    most = capabilities.max_ranks
    if most is not None and size > most:
        raise ConfigError(f"tensor_parallel_size must be at most {most} on this platform; got {size}")
    parts = [("num_attention_heads", model.num_heads), ("intermediate_size", model.intermediate_size)]
    if model.experts is not None:
        parts.append(("moe_intermediate_size", model.experts.inner_size))
    for field, whole in parts:
        if whole % size:
            raise ConfigError(f"tensor_parallel_size ({size}) must divide the model's {field} ({whole})")
    if model.num_kv_heads % size and size % model.num_kv_heads:
        raise ConfigError(
            f"tensor_parallel_size ({size}) must divide the model's num_key_value_heads ({model.num_kv_heads}), or be "
            "a multiple of it"
        )
    return size


def _lora(options: EngineOptions) -> LoraLimits | None:
    if not options.enable_lora:
        return None
    if options.tensor_parallel_size > 1:
        raise ConfigError(
            f"enable_lora serves adapters on one rank; tensor_parallel_size is {options.tensor_parallel_size}. Merge "
            "the adapter into the model's weights, or serve on one rank"
        )
    return LoraLimits(options.max_loras, options.max_lora_rank)


def _quantization(options: EngineOptions, model: ModelConfig) -> str:
    wanted = options.quantization
    if model.quantization is None:
        return wanted or _PLAIN
    found: str = model.quantization["quant_method"]
    if wanted not in (None, found):
        raise ConfigError(
            f"quantization={wanted!r} was asked for; the checkpoint's weights are {found!r} already. Leave the option "
            "out, or give a checkpoint of plain weights"
        )
    return found


def _dtype(wanted: str, found: str, supported: tuple[str, ...], option: str) -> str:
    if wanted == "auto":
        return found if found in supported else supported[0]
    if wanted not in supported:
        raise ConfigError(f"{option} must be auto or one of {', '.join(supported)} on this platform; got {wanted!r}")
    return wanted


def _check_numbers(options: EngineOptions) -> None:
    for name in _COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1; got {value}")
    if options.max_num_batched_tokens < options.max_num_seqs:
        raise ConfigError(
            f"max_num_batched_tokens ({options.max_num_batched_tokens}) must be at least max_num_seqs "
            f"({options.max_num_seqs}), so that every running sequence gets a token a step"
        )
    if options.memory_utilization is not None and not 0 < options.memory_utilization <= 1:
        raise ConfigError(f"memory_utilization must be in (0, 1]; got {options.memory_utilization}")
