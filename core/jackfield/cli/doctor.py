"""`jackfield doctor`: everything that a bug report needs, in one page."""

from __future__ import annotations

import platform as system
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
import msgspec

from jackfield.cli.platforms import Platforms, look
from jackfield.cli.report import JSON, platform_table, print_facts, print_json
from jackfield_platforms.discovery import Found
from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.loading import load
from jackfield_platforms.probe import Launch, LaunchOptions
from jackfield_platforms.selection import PlatformError

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


class Diagnosis(msgspec.Struct, frozen=True):
    """What `doctor` prints."""

    python: str
    system: str
    versions: dict[str, str | None]
    plugins: Platforms
    device: Device | None


@click.command("doctor", params=[click.Option(["--platform"], help="Look at this one."), JSON])
def command(platform: str | None, as_json: bool) -> None:
    """Tell what a bug report needs: versions, plugins with tracebacks, memory, attention backends."""
    diagnosis = diagnose(platform)
    if as_json:
        print_json(diagnosis)
    else:
        _print(diagnosis)
    if diagnosis.device is None:
        sys.exit(1)


def diagnose(wanted: str | None) -> Diagnosis:
    """Look at everything; there is no device where none can be selected or loaded."""
    plugins = look(wanted)
    device = None
    try:
        device = next((_device(one) for one in plugins.platforms if one.name == plugins.selected), None)
    except PlatformError as error:
        plugins = msgspec.structs.replace(plugins, error=str(error))
    return Diagnosis(
        python=f"{system.python_version()} ({sys.executable})",
        system=system.platform(),
        versions={name: _version(name) for name in DISTRIBUTIONS},
        plugins=plugins,
        device=device,
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


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _print(diagnosis: Diagnosis) -> None:
    facts: dict[str, Any] = {"python": diagnosis.python, "system": diagnosis.system}
    print_facts(facts | {name: found or "not installed" for name, found in diagnosis.versions.items()})
    click.echo()
    platform_table(diagnosis.plugins.platforms, diagnosis.plugins.selected)
    for one in diagnosis.plugins.platforms:
        if one.traceback:
            click.echo(f"\n{one.name}:\n{one.traceback}")
    click.echo()
    if diagnosis.device is None:
        click.echo(diagnosis.plugins.error, err=True)
        return
    device = diagnosis.device
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
