"""`jackfield doctor`: everything that a bug report needs, in one page."""

from __future__ import annotations

import platform as system
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from jackfield.cli.platforms import Platforms, judged
from jackfield.cli.report import JSON, platform_table, print_facts, print_json, print_table
from jackfield.cli.software import Software, installed_version, required_software
from jackfield.config.options import EngineOptions
from jackfield.embedded import EMBEDDED_MODEL
from jackfield_platforms.discovery import Found, discover
from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.loading import load
from jackfield_platforms.probe import Launch, LaunchOptions
from jackfield_platforms.refusal import Refused
from jackfield_platforms.selection import PlatformError

if TYPE_CHECKING:
    from jackfield.engine.explanation import Answers

DISTRIBUTIONS = (
    "jackfield",
    "jackfield-platforms",
    "jackfield-attention",
    "jackfield-quantization",
    "torch",
    "transformers",
    "tokenizers",
    "msgspec",
)


class Device(msgspec.Struct, frozen=True):
    """The selected platform, loaded: what it is, its free and total bytes, its attention backends in order."""

    description: str
    torch_device: str
    memory_total: int
    memory_free: int
    memory_limit: str
    attention_backends: list[str]
    weight_formats: list[str]
    launch: Launch


class ModelAttention(msgspec.Struct, frozen=True):
    """What every attention backend says to the layers of a model, or why they could not be asked."""

    model: str
    attention: list[Answers]
    error: str | None = None


class Diagnosis(msgspec.Struct, frozen=True):
    """What `doctor` prints. `software` is what each plugin's distribution requires."""

    python: str
    system: str
    versions: dict[str, str | None]
    plugins: Platforms
    software: dict[str, list[Software]]
    device: Device | None
    model: ModelAttention | None = None


@click.command(
    "doctor",
    params=[
        click.Option(["--platform"], help="Look at this one."),
        click.Option(
            ["--model"],
            is_flag=False,
            flag_value=str(EMBEDDED_MODEL),
            type=click.Path(exists=True, file_okay=False),
            help="Ask the attention backends about this folder's model; without a folder about the embedded one.",
        ),
        JSON,
    ],
)
def command(platform: str | None, model: str | None, as_json: bool) -> None:
    """Tell what a bug report needs: versions, plugins with tracebacks, memory, attention backends."""
    diagnosis = diagnose(platform, model)
    if as_json:
        print_json(diagnosis)
    else:
        _print(diagnosis)
    if diagnosis.device is None or (diagnosis.model is not None and diagnosis.model.error is not None):
        sys.exit(1)


def diagnose(wanted: str | None, model: str | None = None) -> Diagnosis:
    """Look at everything; there is no device where none can be selected or loaded."""
    plugins = judged(discover(), wanted)
    selected = next((one for one in plugins.platforms if one.name == plugins.selected), None)
    device = None
    try:
        device = _device(selected) if selected is not None else None
    except PlatformError as error:
        plugins = msgspec.structs.replace(plugins, error=str(error))
    return Diagnosis(
        python=f"{system.python_version()} ({sys.executable})",
        system=system.platform(),
        versions={name: installed_version(name) for name in DISTRIBUTIONS},
        plugins=plugins,
        software={one.dist: required_software(one.dist) for one in plugins.platforms},
        device=device,
        model=_model(selected, model) if selected and device and model else None,
    )


def _device(found: Found) -> Device:
    launch = environment(found, LaunchOptions())
    apply_launch(launch)
    plugins = load(found.name)
    platform = plugins.platform(found.name)
    device = platform.device()
    memory = platform.memory(device)
    return Device(
        description=platform.describe(),
        torch_device=str(device),
        memory_total=memory.total,
        memory_free=memory.free,
        memory_limit=memory.limit,
        attention_backends=[backend.name for backend in plugins.attention_backends(platform)],
        weight_formats=sorted(plugins.quant_methods()),
        launch=launch,
    )


def _model(found: Found, folder: str) -> ModelAttention:
    from jackfield.engine.assembly import draw_blueprint  # imports torch: after `_device` has applied the launch
    from jackfield.engine.explanation import attention_answers

    try:
        return ModelAttention(folder, attention_answers(draw_blueprint(found, EngineOptions(model=folder))))
    except (PlatformError, Refused, ValueError) as error:  # a ConfigError is a ValueError
        return ModelAttention(folder, [], str(error))


def _print(diagnosis: Diagnosis) -> None:
    facts: dict[str, Any] = {"python": diagnosis.python, "system": diagnosis.system}
    print_facts(facts | {name: found or "not installed" for name, found in diagnosis.versions.items()})
    click.echo()
    platform_table(diagnosis.plugins.platforms, diagnosis.plugins.selected)
    for one in diagnosis.plugins.platforms:
        if one.traceback:
            click.echo(f"\n{one.name}:\n{one.traceback}")
    for dist, software in diagnosis.software.items():
        click.echo(f"\n{dist} requires" + ("" if software else " nothing"))
        print_facts({f"  {one.name}": one.told for one in software})
    click.echo()
    if diagnosis.device is None:
        click.echo(diagnosis.plugins.error, err=True)
        return
    _print_device(diagnosis.device)
    if diagnosis.model is not None:
        _print_model(diagnosis.model)


def _print_device(device: Device) -> None:
    gib = 1 << 30
    print_facts(
        {
            "device": f"{device.torch_device}: {device.description}",
            "memory": f"{device.memory_free / gib:.1f} GiB free of {device.memory_total / gib:.1f}",
            "memory limit": device.memory_limit,
            "attention": ", ".join(device.attention_backends),
            "weight formats": ", ".join(device.weight_formats),
            "launch": msgspec.json.encode(device.launch).decode(),
        }
    )


def _print_model(model: ModelAttention) -> None:
    click.echo(f"\nmodel           {model.model}")
    if model.error is not None:
        click.echo(model.error, err=True)
    for group in model.attention:
        click.echo(f"layers {group.layers}: {group.need}")
        print_table(("attention", "answer"), [(name, why or "can serve") for name, why in group.backends])
