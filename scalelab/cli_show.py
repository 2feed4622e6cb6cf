"""The commands that only look: at tables, a configuration, how sweeps stand. Nothing is trained, no run is changed."""

from pathlib import Path
from typing import Annotated

import typer

from scalelab.answering import answering, console

app = typer.Typer()
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="A parametrization in full; a list of all if left out.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Only what this optimizer needs.")] = None,
) -> None:
    """Print the parametrization tables: what each multiplies multiplier, init, lr, weight decay and eps with."""
    with answering():
        from scalelab import show_tables

        show_tables.tables(name, console, optimizer=optimizer)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A parametrization, or a published reference.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    optimizer: Annotated[str | None, typer.Option(help="Only what this optimizer needs.")] = None,
) -> None:
    """Compare two tables modulo the abc-symmetry: where do they train differently, where do they only look so?"""
    with answering():
        from scalelab import show_tables

        show_tables.compared(a, b, console, optimizer=optimizer)


@app.command(context_settings=PASS_THROUGH)
def explain(
    context: typer.Context,
    each: Annotated[bool, typer.Option("--each", help="Every parameter by itself.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    vocab: Annotated[int | None, typer.Option(help="In place of the corpus' own: it may be elsewhere.")] = None,
) -> None:
    """Explain a configuration: every parameter group's values beside the rules they come from. Allocates nothing.

    Arguments are keys of conf/train.yaml, of any size: `explain parametrization=completep width=8192 depth=80`.
    """
    with answering():
        from scalelab import explain as room
        from scalelab import plan, show_explained

        found = room.explain(plan.composed(list(context.args)), vocab=vocab, each=each)
        typer.echo(room.as_json(found)) if json else show_explained.explanation(found, console)


@app.command()
def collect(
    studies: Annotated[list[Path], typer.Argument(help="Studies, or folders of studies.")],
) -> None:
    """Collect a study's final trials in one Parquet file, its trials.parquet: `status` and `fit` read that in seconds.

    Run folders stay as they are, and runs may be under way. Collected again, only what is new is read.
    """
    with answering():
        from scalelab import collection
        from scalelab.console import say

        for folder in studies:
            for found in collection.collect(folder):
                say(console, found.summary())


@app.command()
def status(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Studies, or folders of studies; runs if left out.", show_default=False)
    ] = None,
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until nothing is running.", min=0.1)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch a line each time.")] = False,
    measure_peak: Annotated[
        bool, typer.Option("--measure-peak", help="Measure this machine's matmul peak first, where it is not known.")
    ] = False,
) -> None:
    """How sweeps stand, running or finished: runs, tokens, FLOPs, seconds, achieved FLOP/s, energy, the time left.

    Read from the run folders alone, so it does not matter who launched them or where they run. Of a search also
    `search status`.
    """
    with answering():
        from scalelab import show_status

        show_status.status(folders or [Path("runs")], console, every=watch, as_json=json, measure_peak=measure_peak)
