"""`jackfield buckets`: what each ladder of sizes would make of a recorded run, and a plan to serve with."""

from __future__ import annotations

from pathlib import Path

import click

from jackfield.cli.report import JSON, print_json

_PATH = click.Path(path_type=Path, dir_okay=False)


def _count(name: str, default: int | None, text: str) -> click.Option:
    return click.Option([name], type=click.IntRange(min=1), default=default, show_default=True, help=text)


@click.command(
    "buckets",
    params=[
        click.Option(["--trace"], type=_PATH, required=True, help="What `serve --record-steps` wrote."),
        click.Option(["--model"], help="A folder; its context is the longest row. The embedded model without one."),
        _count("--max-model-len", None, "Tokens of the longest row, instead of the model's context."),
        _count("--max-num-seqs", 256, "Rows that a step holds at most, as in serving."),
        _count("--max-num-batched-tokens", 2048, "Tokens that a step computes at most, as in serving."),
        _count("--block-size", 16, "Tokens in a block of the KV cache, as in serving."),
        _count("--graphs", 64, "Graphs that the fitted plan may have."),
        click.Option(["--write"], type=(str, _PATH), metavar="LADDER FILE", help="Write that ladder's plan as JSON."),
        click.Option(["--plot"], type=_PATH, help="Draw graphs against cost, as an SVG file."),
        JSON,
    ],
)
def command(
    trace: Path,
    model: str | None,
    max_model_len: int | None,
    write: tuple[str, Path] | None,
    plot: Path | None,
    as_json: bool,
    **sizes: int,
) -> None:
    """Compare ladders of bucket sizes over the steps of a recorded run; costs are in tokens, padding included."""
    from jackfield.bench.ladders import compare, plan
    from jackfield_platforms.bucket import Limits
    from jackfield_platforms.buckets.trace import Trace

    longest = max_model_len or _context_len(model)
    limits = Limits(sizes["max_num_seqs"], sizes["max_num_batched_tokens"], longest, sizes["block_size"])
    try:
        steps = Trace.load(trace)
        uses = compare(limits, steps, sizes["graphs"])
        if write is not None:
            write[1].write_bytes(plan(write[0], limits, steps, sizes["graphs"]).to_json())
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if plot is not None:
        from jackfield.cli.scatter import scatter

        plot.write_text(scatter([(use.ladder, use.graphs, use.cost) for use in uses], "graphs", "cost in tokens"))
    if as_json:
        print_json(uses)
    else:
        _table(uses)


def _context_len(model: str | None) -> int:
    from jackfield.config.model_config import load_model_config
    from jackfield.embedded import EMBEDDED_MODEL
    from jackfield.loader.folder import model_folder
    from jackfield.models.registry import ModelRegistry

    return load_model_config(model_folder(model) if model else EMBEDDED_MODEL, ModelRegistry()).context_len


def _table(uses: list) -> None:  # type: ignore[type-arg]
    from rich.console import Console
    from rich.table import Table

    table = Table("ladder", "graphs", "used", "launches", "misses", "padding", "cost", "", box=None)
    dearest = max(use.cost for use in uses)
    for use in uses:
        counts = (str(use.graphs), str(use.graphs_used), f"{use.launches:,}", str(use.misses))
        bar = "█" * max(1, round(12 * use.cost / dearest))
        table.add_row(use.ladder, *counts, f"{use.token_waste:.1%}", f"{use.cost:,.0f}", bar)
    Console().print(table)
