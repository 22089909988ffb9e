"""The reference, broken mechanically in some hundred places, and which check of the kit finds each.

Run as a script (`make mutants`) it writes `docs/conformance_mutants.md`. Survivors are explained in
`mutant_survivors.py`, or are listed as what they are: a check that is missing.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import fault_platform
import faulty_parts as parts
import msgspec
from mutant_survivors import explanation
from mutation import Mutant, mutants, planted

from jackfield.conformance import sampler_checks
from jackfield_attention.paged import PagedTorchAttention
from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.ladder import CudaSizes, Exponential, Linear, PaddingAware, PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.testing.conformance.run import KitOptions, check

TABLE = Path(__file__).with_name("mutants.json")
PAGE = Path(__file__).parents[2] / "docs" / "conformance_mutants.md"
SECONDS = 60  # a mutant may never end


class Hangs(BaseException):
    """A mutant that does not end."""


class Family(NamedTuple):
    """Modules that are broken, every which of their mutants, and what is asked of them, in order."""

    modules: tuple[str, ...]
    step: int
    subject: dict[str, Any]
    matches: tuple[str, ...]


def ladders(limits: Limits) -> StaticBuckets:
    """A plan that uses every kind of ladder."""
    blocks = Exponential(low=2, count=4)
    rules = (
        PhaseRule(phase="decode", rows=CudaSizes(), blocks=blocks),
        PhaseRule(phase="mixed", tokens=Linear(low=4, step=64), blocks=PaddingAware(low=2, relative=0.4)),
        PhaseRule(phase="prefill", rows=PowersOfTwo(), query=Exponential(low=8, step=8, count=5), blocks=blocks),
    )
    return StaticBuckets.of_rules(rules, limits, on_miss="round_up")


ATTENTION = (
    "check_prefill",
    "check_decode or check_mixed",
    "check_padding or fifty_layouts or rope_in_halves or large_scores or full_step",
)
BUCKETS = ("every_step", "logits_are_planned or larger_buckets or survives_json")
FAMILIES = (
    Family(("jackfield_attention.flat_blocks", "jackfield_attention.flat_plan"), 5, {}, ATTENTION),
    Family(
        ("jackfield_attention.softmax", "jackfield_attention.slots"), 3, {"backend": PagedTorchAttention}, ATTENTION
    ),
    Family(
        ("jackfield_platforms.reference",),
        3,
        {},
        ("check_rms_norm or add_rms_norm or silu_mul or check_rotary or lora_add or argmax or penalize or threshold",),
    ),
    Family(("jackfield_platforms.dequant_linear",), 3, {}, ("encoded",)),
    Family(
        tuple(
            f"jackfield_platforms.buckets.{name}" for name in ("bucket_table", "ladder", "phase_rule", "static_plan")
        ),
        6,
        {"buckets": ladders},
        BUCKETS,
    ),
    Family(("jackfield_platforms.testing.strict_graphs",), 2, {"buckets": parts.padded_rows}, ("graph_checks",)),
    Family(
        tuple(f"jackfield.runner.{name}" for name in ("draw", "candidates", "sampler", "planned_sampler")),
        8,
        {},
        ("ids_follow", "frequencies", "logprobs or masks"),
    ),
)


class Row(msgspec.Struct, frozen=True):
    """What became of a mutant; `caught` names checks, and is empty where it survived."""

    module: str
    function: str
    source: str
    before: str
    after: str
    caught: tuple[str, ...]
    reason: str | None  # why one that survived may


def chosen(family: Family) -> list[Mutant]:
    """Every so-manieth mutant of the family's modules."""
    return [mutant for module in family.modules for mutant in mutants(module)[:: family.step]]


def tried(mutant: Mutant, family: Family) -> Row:
    """The checks that fail while the mutant is planted; the first that do are enough."""
    with planted(mutant), contextlib.redirect_stdout(io.StringIO()), limited(SECONDS):
        for match in family.matches:
            try:
                failed = check(fault_platform.subject(**family.subject), options(match)).failed_checks()
            except Hangs:
                return row(mutant, "it does not end")
            except Exception as error:
                return row(mutant, f"the platform cannot be asked: {type(error).__name__}")
            if failed:
                return row(mutant, *sorted(failed))
    return row(mutant)


def row(mutant: Mutant, *caught: str) -> Row:
    reason = None if caught else explanation(mutant)
    return Row(mutant.module, mutant.function, mutant.source, mutant.before, mutant.after, caught, reason)


def options(match: str) -> KitOptions:
    return KitOptions(seeds=1, match=match, modules=(sampler_checks.__file__,))


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Hangs after so long."""

    def end(number: int, frame: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def page(rows: Sequence[Row]) -> str:
    """The table, survivors first."""
    survived = [one for one in rows if not one.caught]
    lines = [
        "# Mechanical mutations of the reference",
        "",
        f"`make mutants` wrote this: {len(rows)} mutants, {len(rows) - len(survived)} caught, {len(survived)} survived."
        " Each changes one place: a comparison flipped, a constant one off, a term dropped, operands swapped. "
        "The kit ran with one seed, until the first check that failed.",
        "",
        "## Survivors",
        "",
        "| where | change | why it survives |",
        "|---|---|---|",
        *(f"| {where(one)} | {changed(one)} | {one.reason or '**a check is missing**'} |" for one in survived),
        "",
        "## Caught",
        "",
        "| where | change | by |",
        "|---|---|---|",
        *(f"| {where(one)} | {changed(one)} | {told(one.caught)} |" for one in rows if one.caught),
    ]
    return "\n".join(lines) + "\n"


def where(one: Row) -> str:
    return f"`{one.module.rpartition('.')[2]}.{one.function}`: {code(one.source)}"


def changed(one: Row) -> str:
    return f"{code(one.before)} → {code(one.after)}"


def code(text: str) -> str:
    return "`" + text.replace("\n", " ").replace("|", "\\|") + "`"


def told(checks: tuple[str, ...]) -> str:
    return ", ".join(check.removeprefix("check_") for check in checks)


def main(words: Sequence[str]) -> int:
    """Try the families whose modules hold one of `words`, all without; what others gave is kept."""
    os.environ["PYTEST_ADDOPTS"] = "-x"  # the first check that fails is enough
    kept = msgspec.json.decode(TABLE.read_bytes(), type=list[Row]) if TABLE.exists() else []
    known = {module for family in FAMILIES for module in family.modules}
    rows = [one for one in kept if one.module in known]
    for family in FAMILIES:
        if words and not any(word in module for word in words for module in family.modules):
            continue
        rows = [one for one in rows if one.module not in family.modules]
        for mutant in chosen(family):
            rows.append(tried(mutant, family))
            print(f"{'caught  ' if rows[-1].caught else 'SURVIVED'} {mutant.name}", flush=True)
        TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
        PAGE.write_text(page(rows), encoding="utf-8")
    return int(any(not one.caught and one.reason is None for one in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
