"""The engine's options as every command that starts an engine takes them."""

from __future__ import annotations

from typing import Any

import click

from jackfield.cli.options import BYTES, JSON, Help, options_of, take
from jackfield.config.options import EngineOptions

HELPS = {
    "model": Help("A folder with a checkpoint; without one the embedded model."),
    "tokenizer": Help("A folder with a tokenizer; the model's own unless given."),
    "platform": Help("The plugin to run on; found and selected unless given.", envvar="JACKFIELD_PLATFORM"),
    "dtype": Help("Of weights and activations, as torch names it; auto: the checkpoint's where the platform has it."),
    "kv_cache_dtype": Help("Of cached keys and values; auto: that of the activations."),
    "quantization": Help(
        "A weight format to convert plain weights to, such as int8; the checkpoint's own unless given."
    ),
    "tensor_parallel_size": Help("Ranks to split the model among, each a process with a part of every layer."),
    "max_model_len": Help("Tokens of a prompt and its answer together; the model's own limit unless given."),
    "max_num_seqs": Help("Sequences that run at once."),
    "max_num_batched_tokens": Help("Tokens that one step computes at most."),
    "block_size": Help("Tokens in a block of the KV cache; the attention backend's choice unless given."),
    "kv_cache_memory": Help("Memory for the KV cache of each rank, such as 2G or 512M.", kind=BYTES),
    "memory_utilization": Help("Share of the device's free memory to plan with, between 0 and 1."),
    "enable_prefix_caching": Help("Reuse the KV blocks of prompts that begin alike."),
    "enable_lora": Help("Serve LoRA adapters that requests name."),
    "max_loras": Help("LoRA adapters in use at once."),
    "max_lora_rank": Help("The largest rank of a LoRA adapter; memory is set aside for it."),
    "load_format": Help("dummy: random weights, without reading any."),
    "overlap": Help("Schedule the next step while one runs; auto: where the platform runs asynchronously."),
    "speculative_config": Help(
        'Who drafts tokens for the model to verify, as JSON: {"model": FOLDER, "num_speculative_tokens": 4, '
        '"platform": NAME} or {"method": "ngram", "num_speculative_tokens": 4}.',
        kind=JSON,
    ),
    "buckets": Help(
        "A JSON file of sizes to capture, as `jackfield buckets` writes it; the platform's own plan unless given."
    ),
    "forbid_compile": Help("Fail a step that no planned bucket holds, instead of capturing one late."),
    "record_steps": Help("A file to write the sizes of every step to, for `jackfield buckets`."),
    "target_step_seconds": Help(
        "How long a step may take for a prompt's sake while answers are being made, "
        "if four decode steps are not longer; 0: as long as it takes."
    ),
    "seed": Help("Of everything random that a request does not seed itself."),
}


def engine_parameters(*, positional_model: bool) -> list[click.Parameter]:
    """Every engine option, and the model as an argument too where the command takes nothing else there."""
    argument = [click.Argument(["model_argument"], metavar="[MODEL]", required=False)] if positional_model else []
    return [*argument, *options_of(EngineOptions, HELPS)]


def take_engine(values: dict[str, Any]) -> EngineOptions:
    """The engine's options out of a command's values; the model may be given once, either way."""
    argument = values.pop("model_argument", None)
    if argument is not None and values["model"] not in (None, argument):
        raise click.UsageError(f"The model is given twice: {argument!r} and --model {values['model']!r}.")
    values["model"] = argument or values["model"]
    return take(EngineOptions, values)
