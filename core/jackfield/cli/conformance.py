"""`jackfield conformance`: whether a platform, its attention backends and its probe do what the SDK asks of them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import click

from jackfield_platforms.testing.conformance.run import DEFAULT_SEEDS, TRACEBACKS, KitOptions

_SAMPLER = "jackfield.conformance.sampler_checks"
_PARITY = "jackfield.conformance.parity_checks"


@click.command("conformance")
@click.argument("platform")
@click.option("--seeds", type=click.IntRange(min=1), default=DEFAULT_SEEDS, show_default=True, help="Inputs a check.")
@click.option("--model-parity", is_flag=True, help="Also compare a whole model's tokens with its float64 definition.")
@click.option("--json", "json_file", metavar="FILE", help="Write every result there.")
@click.option("--junit", metavar="FILE", help="Write JUnit's XML there.")
@click.option("-k", "match", metavar="EXPR", default="", help="Only checks whose names match, as pytest's -k.")
@click.option("--list", "list_only", is_flag=True, help="Name the checks and count their cases, and run none.")
@click.option(
    "--tb", "traceback", type=click.Choice(TRACEBACKS), help="Also print pytest's tracebacks of failures, in this form."
)
def command(platform: str, *, model_parity: bool, json_file: str | None, list_only: bool, **options: Any) -> None:
    """Check an installed platform against the SDK's definitions. Needs pytest (jackfield-platforms[test])."""
    from jackfield_platforms.testing.conformance.command import list_and_tell, run_and_tell

    given = KitOptions(modules=(_file(_SAMPLER), *((_file(_PARITY),) if model_parity else ())), **options)
    if list_only:
        sys.exit(list_and_tell(platform, given, json_file))
    typed = "jackfield conformance" + (" --model-parity" if model_parity else "")
    sys.exit(run_and_tell(platform, given, json_file, typed))


def _file(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin
