"""`jackfield explain`: who serves what in a launch, and why the better ones refused. No weight is loaded."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from jackfield.cli.engine_options import HELPS
from jackfield.cli.options import Help, options_of, take
from jackfield.cli.report import JSON, print_facts, print_json, print_table
from jackfield.config.options import EngineOptions

if TYPE_CHECKING:
    from jackfield.engine.explanation import Explanation, Served

FOLDER = Help(
    "A folder with a checkpoint, of which only the configuration is read; without one the embedded model.",
    kind=click.Path(exists=True, file_okay=False),
)
_CHOOSING = ("platform", "dtype", "quantization")  # beside the model, what decides who serves
_DETAIL_WIDTH = 30  # characters, at least
_NUMBERED = re.compile(r"(?<=\.)\d+(?=\.)")  # the layer's number in "model.layers.12.mlp"


@click.command(
    "explain",
    params=[
        *options_of(EngineOptions, {"model": FOLDER, **{name: HELPS[name] for name in _CHOOSING}}),
        JSON,
    ],
)
def command(as_json: bool, **values: Any) -> None:
    """Tell which implementation serves each op, attention, linear and decoder layer of a model, and why."""
    explanation = explained(take(EngineOptions, values))
    if as_json:
        print_json(explanation)
    else:
        _print(explanation)
    if explanation.unserved:
        sys.exit(1)


def explained(options: EngineOptions) -> Explanation:
    """What a launch with `options` would choose."""
    from jackfield.engine.build import prepare

    found = prepare(options.platform)
    from jackfield.engine.assembly import draw_blueprint  # imports torch, which reads its environment once
    from jackfield.engine.explanation import explain

    return explain(draw_blueprint(found, options))


def _print(explanation: Explanation) -> None:
    print_facts(
        {
            "platform": explanation.platform,
            "model": f"{explanation.architecture} in {explanation.model}",
            "dtype": f"{explanation.dtype}, KV cache {explanation.kv_dtype}",
        }
    )
    _table("op", explanation.ops)
    _table("attention", explanation.attention)
    _table("linear layer", alike(explanation.linears))
    _table("decoder layer", explanation.layers)
    if explanation.unread:
        print_table(
            ("override that nobody reads", "of op", "why"),
            [(one.name, one.op, one.why) for one in explanation.unread],
        )


def alike(linears: Sequence[Served]) -> list[Served]:
    """One entry for layers that differ in their number alone; the numbers are joined in its name."""
    from jackfield.engine.explanation import spans

    numbers: dict[Served, list[int]] = {}
    for one in linears:
        number = _NUMBERED.search(one.what)
        merged = msgspec.structs.replace(one, what=_NUMBERED.sub("{}", one.what, count=1))
        numbers.setdefault(merged, []).extend([int(number[0])] if number else [])
    return [
        msgspec.structs.replace(one, what=one.what.replace("{}", spans(found), 1)) for one, found in numbers.items()
    ]


def _table(what: str, served: Sequence[Served]) -> None:
    width = max((len(one.what) for one in served), default=0)
    print_table((what, "served by", "why"), [_row(one, max(width, _DETAIL_WIDTH)) for one in served])


def _row(one: Served, width: int) -> tuple[str, str, str]:
    why = [f"not {refusal.name}: {refusal.why}" for refusal in one.refusals]
    why += [f"not asked: {', '.join(one.unasked)}"] if one.unasked else []
    return "\n".join([one.what, *textwrap.wrap(one.detail, width)]), one.by or "nobody", "\n".join(why)
