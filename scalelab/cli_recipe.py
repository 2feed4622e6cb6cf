"""The commands from laws to what is handed over: recommend, confirm, report."""

from pathlib import Path
from typing import Annotated

import typer

from scalelab.answering import answering, console

app = typer.Typer()
Tracker = Annotated[
    str | None, typer.Option("--tracker", help="Keep what is written as an artifact: wandb, wandb:PROJECT.")
]


@app.command()
def recommend(
    laws: Annotated[Path, typer.Option(help="The laws.json that `fit` wrote.")],
    target: Annotated[
        list[str], typer.Option("--target", "-t", help="width=… depth=… tokens=… batch_tokens=…; repeat or quote.")
    ],
    parametrization: Annotated[
        str | None, typer.Option("--parametrization", "-p", help="If several were swept.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    tracker: Tracker = None,
) -> None:
    """Project to a target: a recipe of every value per parameter group, with intervals, evidence and warnings."""
    with answering():
        from scalelab import recommend as room
        from scalelab import show
        from scalelab.laws import read as read_laws
        from scalelab.recipe import write_recipe
        from scalelab.target import parse_target
        from scalelab.trackers.artifacts import accepted_place, keep

        place, found = accepted_place(tracker), read_laws(laws)
        recipe = room.recommend(found, parse_target(target), parametrization=parametrization)
        write_recipe(recipe, out)
        show.recipe(recipe, console)
        show.say(console, f"written: {out}")
        if place is not None:
            show.say(console, keep(place, "recipe", [out], sources=found.sources, folder=out.parent))


@app.command()
def confirm(
    recipe: Annotated[Path, typer.Argument(help="The recipe.yaml that was run.")],
    runs: Annotated[list[Path], typer.Argument(help="Runs at its target, with its setting and around it.")],
    proxies: Annotated[list[Path] | None, typer.Option(help="The sweep behind the recipe, for its compute.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write confirmation.json there.")] = None,
) -> None:
    """Measure a recipe's regret at its target: loss with the recipe minus the best loss found there."""
    with answering():
        from scalelab import confirm as room
        from scalelab import plots, readers, report, show
        from scalelab.recipe import read_recipe

        swept = readers.read(proxies) if proxies else None
        at_target = readers.read(runs)
        found = room.confirm(read_recipe(recipe), at_target, proxies=swept)
        show.confirmation(found, console)
        if out is not None:
            room.write(found, out)
            report.save(plots.target(found), out, "target")


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="A study's folder: checks, laws, recipe, confirmation where present.")],
    title: Annotated[str, typer.Option(help="Headline.")] = "scalelab report",
) -> None:
    """Gather what a study produced into one HTML page with its figures."""
    with answering():
        from scalelab import report
        from scalelab.console import say

        say(console, f"written: {report.write_html(folder, title)}")
