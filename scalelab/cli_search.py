"""The commands around a search: the bounds before it, and what it has found, while it runs and after."""

from pathlib import Path
from typing import Annotated

import typer

from scalelab.answering import answering, console

app = typer.Typer()
search = typer.Typer(
    no_args_is_help=True,
    help="Look at a search: an Optuna study, of ours or anybody's. Nothing of it is changed.",
)
app.add_typer(search, name="search")


@app.command("lr-range", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lr_range(
    context: typer.Context,
    widths: Annotated[str, typer.Option(help="Widths to test.")] = "32,64,128",
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-4,
    highest: Annotated[float, typer.Option(help="That of the last one.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Training steps.", min=20)] = 100,
    seeds: Annotated[int, typer.Option(help="Seeds to average over.", min=1)] = 2,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("lr_range"),
) -> None:
    """Bounds for a search of the learning rate: one short run a width in which it rises until the loss does.

    Further arguments are keys of conf/train.yaml: `lr-range parametrization=sp --widths 64,128,256`.
    """
    with answering():
        from scalelab import ranging

        ranging.lr_range(
            list(context.args), widths=widths, lowest=lowest, highest=highest, steps=steps, seeds=seeds, out=out,
            console=console,
        )  # fmt: skip


Study = Annotated[
    str, typer.Argument(help="The folder of a search, a *.db or *.journal file, or a storage's URL; #NAME if several.")
]


@search.command()
def status(study: Study) -> None:
    """What was tried and how it ended, what it cost, the best so far, the Pareto front, what matters."""
    with answering():
        from scalelab import search_views, show_search
        from scalelab.readers.optuna_study import open_study

        opened = open_study(study)
        found = search_views.view(opened)
        weights = search_views.importances(found, opened)
        show_search.status(found, weights, enough=search_views.ENOUGH, console=console)


@search.command()
def plot(
    study: Study,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("search"),
) -> None:
    """Draw the front, the history, slices, parallel coordinates, importances."""
    with answering():
        from scalelab import report, search_views
        from scalelab.plots.searched import searched
        from scalelab.readers.optuna_study import open_study

        opened = open_study(study)
        written = []
        for name, figure in searched(search_views.view(opened), opened):
            report.save(figure, out, name)
            written.append(name)
        console.print(f"written: {out}/{{{','.join(written)}}}.png and .svg", highlight=False, markup=False)
