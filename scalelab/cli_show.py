"""The commands that only look: at tables, a configuration, how sweeps stand. Nothing is trained, no run is changed."""

from pathlib import Path
from typing import Annotated

import typer

from scalelab import completion
from scalelab.answering import FINE, NO, AsJson, answering, console
from scalelab.cli_group import LOOK, STANDING
from scalelab.errors import Refused

app = typer.Typer()
PASS_THROUGH = {"ignore_unknown_options": True}
Optimizer = Annotated[
    str | None, typer.Option(help="Only what this optimizer needs.", autocompletion=completion.optimizers)
]


@app.command(rich_help_panel=LOOK, short_help="The parametrization tables, or one in full.")
def tables(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A parametrization in full; a list of all if left out.", autocompletion=completion.parametrizations
        ),
    ] = None,
    optimizer: Optimizer = None,
    json: AsJson = False,
) -> None:
    """Print the parametrization tables: what each multiplies multiplier, init, lr, weight decay and eps with."""
    with answering(json) as answer:
        from scalelab import parametrizations, show_tables, tables_json

        if json and name is None:
            answer(tables_json.listing(optimizer=optimizer))
        elif json:
            answer(tables_json.table(parametrizations.table(str(name)), optimizer=optimizer))
        else:
            show_tables.tables(name, console, optimizer=optimizer)


@app.command(rich_help_panel=LOOK, short_help="Where do two tables train differently?")
def compare(
    a: Annotated[
        str, typer.Argument(help="A parametrization, or a published one.", autocompletion=completion.references)
    ],
    b: Annotated[str, typer.Argument(help="Another.", autocompletion=completion.references)],
    optimizer: Optimizer = None,
    json: AsJson = False,
) -> None:
    """Compare two tables modulo the abc-symmetry: where do they train differently, where do they only look so?"""
    with answering(json) as answer:
        from scalelab import compare as room
        from scalelab import show_tables, tables_json

        found = room.difference(room.reference(a), room.reference(b), optimizer=optimizer)
        answer(tables_json.difference(found)) if json else show_tables.difference(found, console)


@app.command(
    context_settings=PASS_THROUGH, rich_help_panel=LOOK, short_help="Every value of a configuration, and its rule."
)
def explain(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", autocompletion=completion.overrides, show_default=False),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Every parameter by itself.")] = False,
    json: AsJson = False,
    vocab: Annotated[int | None, typer.Option(help="In place of the corpus' own: it may be elsewhere.")] = None,
) -> None:
    """Explain a configuration: every parameter group's values beside the rules they come from. Allocates nothing.

    Arguments are keys of conf/train.yaml, of any size: `explain parametrization=completep width=8192 depth=80`.
    """
    with answering(json) as answer:
        from scalelab import explain as room
        from scalelab import plan, show_explained

        found = room.explain(plan.composed(list(overrides or ())), vocab=vocab, each=each)
        answer(room.as_plain(found)) if json else show_explained.explanation(found, console)


@app.command(rich_help_panel=LOOK, short_help="Is everything here that a sweep needs?")
def doctor(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where runs are to be written.")] = Path("runs"),
    json: AsJson = False,
) -> None:
    """Look at this machine: Python, torch, packages, disks, clocks, limits, extras. Exit 1 if what is needed is broken.

    Nothing is installed or changed; a small file is written to each folder and removed.
    """
    with answering(json) as answer:
        from scalelab import doctor as room
        from scalelab import show_doctor

        found = room.examine(out)
        answer(room.as_plain(found)) if json else show_doctor.findings(found, console)
    raise typer.Exit(NO if room.is_broken(found) else FINE)


@app.command(rich_help_panel=STANDING, short_help="Keep a study's trials in one file.")
def collect(
    studies: Annotated[
        list[Path], typer.Argument(help="Studies, or folders of studies.", autocompletion=completion.studies)
    ],
    csv: Annotated[
        Path | None,
        typer.Option(help="A table to keep and share, instead: a row a run, a column for whatever was varied."),
    ] = None,
    curve: Annotated[int, typer.Option(help="With --csv: points of every run's training loss.", min=0)] = 0,
    json: AsJson = False,
) -> None:
    """Collect a study's final trials in one Parquet file, its trials.parquet: `status` and `fit` read that in seconds.

    Run folders stay as they are, and runs may be under way. Collected again, only what is new is read.
    """
    with answering(json) as answer:
        from scalelab import collection
        from scalelab.console import say
        from scalelab.files import write_atomically

        if csv is not None:
            table = collection.tidy(studies, curve=curve)
            write_atomically(csv, collection.as_csv(table))
            say(console, f"{csv}: {len(table)} runs, {len(table.columns)} columns")
            answer({"csv": str(csv), "runs": len(table), "columns": list(table.columns)})
            return
        if curve:
            raise Refused(f"--curve {curve}: goes with --csv FILE, into which the points are written")
        collected = []
        for folder in studies:
            for found in collection.collect(folder):
                say(console, found.summary())
                collected.append(found)
        answer({"studies": [each.as_plain() for each in collected]})


@app.command(rich_help_panel=STANDING, short_help="How sweeps stand: runs, FLOPs, energy, the time left.")
def status(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Studies, or folders of studies; runs if left out.",
            show_default=False,
            autocompletion=completion.studies,
        ),
    ] = None,
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until nothing is running.", min=0.1)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --watch one a line, each time.")
    ] = False,
    measure_peak: Annotated[
        bool, typer.Option("--measure-peak", help="Measure this machine's matmul peak first, where it is not known.")
    ] = False,
) -> None:
    """How sweeps stand, running or finished: runs, tokens, FLOPs, seconds, achieved FLOP/s, energy, the time left.

    Read from the run folders alone, so it does not matter who launched them or where they run. Of a search also
    `search status`.
    """
    with answering(json) as answer:
        from scalelab import show_status

        show_status.status(
            folders or [Path("runs")], console, every=watch, answer=answer if json else None, measure_peak=measure_peak
        )
