"""Graphs against padding: ladders of sizes over one run, for each set of dimensions that a device compiles for.

    python benchmarks/bucket_ladders.py [--requests 2000] [--graphs 32] [--docs docs] [--json]

Requests of a seeded mix (lognormal, 220 tokens of prompt and 190 of answer on average, at most 1,024 of either) arrive
by chance, and the scheduler makes its steps of them by each device's rules, as it would with a model: 64 rows and 2,048
tokens a step at most, contexts of at most 2,048 tokens. Every ladder then places the same steps. `fitted` has at most
`--graphs` sizes, which are fitted to that very run, so that its padding is the least that can be hoped for with so few.
`--docs` writes the page and the plot that are in docs/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import msgspec
from ladder_parts.figures import LadderFigures, drawing, figures, table
from ladder_parts.fit import fitted, planned
from ladder_parts.run import ANSWER, LONGEST, PROMPT, run
from ladder_parts.styles import LADDERS, STYLES, Style

SEED = 6
PAGE, PLOT = "bucket_ladders.md", "bucket_ladders.svg"


def compared(style: Style, requests: int, budget: int) -> list[LadderFigures]:
    """Every ladder over the run of a style, the fewest graphs first."""
    trace = run(style, requests, SEED)
    plans = {
        name: planned(style, style.buckets({what: ladder(size) for what, size in style.dimensions.items()}))
        for name, ladder in LADDERS.items()
    }
    plans["fitted"] = fitted(style, trace, budget)
    return sorted((figures(name, plan, trace) for name, plan in plans.items()), key=lambda one: one.graphs)


def page(found: dict[str, list[LadderFigures]], requests: int) -> str:
    """The page of docs/."""
    parts = [
        "# Ladders of sizes: graphs against padding",
        f"Made by `python benchmarks/bucket_ladders.py --docs docs` from a seeded run of {requests:,} requests "
        f"(prompts of {PROMPT} and answers of {ANSWER} tokens on average, lognormal, at most {LONGEST:,}; 64 rows, "
        "2,048 tokens a step, contexts up to 2,048) through the scheduler, by each device's rules. These are counts: "
        "nothing was measured on a device. `graphs` are planned sizes of a launch, `warm-up` those and the numbers of "
        "rows at which sampling is captured, `used` the graphs that the run needed. [buckets.md](buckets.md) tells "
        "what a ladder is.",
        f'<img src="{PLOT}" alt="graphs against padding">',
    ]
    for style in STYLES:
        parts += [f"## {style.name}: {style.told}", table(found[style.name])]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--graphs", type=int, default=32, help="of the fitted plan")
    parser.add_argument("--docs", type=Path, help="folder to write the page and the plot to")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {style.name: compared(style, options.requests, options.graphs) for style in STYLES}
    if options.docs is not None:
        (options.docs / PAGE).write_text(page(found, options.requests))
        panels = [(f"{style.name}: {style.told}", found[style.name]) for style in STYLES]
        (options.docs / PLOT).write_text(drawing(panels))
    if options.json:
        print(json.dumps(msgspec.to_builtins(found)))
        return
    for style in STYLES:
        print(f"{style.name}: {style.told}\n{table(found[style.name])}\n")


if __name__ == "__main__":
    main()
