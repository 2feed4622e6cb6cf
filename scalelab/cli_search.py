"""The commands around a search: the bounds before it, and what it has found, while it runs and after."""

import time
from pathlib import Path
from typing import Annotated

import typer

from scalelab.answering import answering, console

app = typer.Typer()
search = typer.Typer(
    no_args_is_help=True,
    help="Run a search with any number of workers, look at it, stop it; look at any Optuna study.",
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


Folder = Annotated[Path, typer.Argument(help="The study's folder, runs/NAME.")]


@search.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    workers: Annotated[int, typer.Option(help="Processes of this machine that train, without an engine.")] = 1,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background, and return at once.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Search, asking the next trial as soon as one has ended; any number of times on one study, on any nodes.

    The arguments are those of `train -m hydra/sweeper=optuna …`. With hydra/launcher=slurm or ray the runs are handed
    over, hydra.sweeper.n_jobs at a time; otherwise this process trains, one trial at a time.
    """
    with answering():
        from scalelab.search.problem import problem_of
        from scalelab.searching import working
        from scalelab.searching.request import request_of

        request = request_of(context.args, workers=workers)
        if worker:
            working.work(request, console)
            raise typer.Exit(0)
        problem = problem_of(request.asked)
        working.check(request, problem)
        request.write(problem.folder)
        if detach:
            working.detach(request, console)
            raise typer.Exit(0)
        status = working.conduct(request, console)
    raise typer.Exit(status)


@search.command()
def attach(study: Folder) -> None:
    """Show how a search goes on; where nobody is at work on it any more, go on with it."""
    with answering():
        from scalelab.searching import working

        status = working.attach(study, console)
    raise typer.Exit(status)


@search.command()
def stop(study: Folder) -> None:
    """End all who are at work on a search and what they have handed over; it can be gone on with."""
    with answering():
        from scalelab.searching import watching
        from scalelab.searching.request import in_its_folder, read_request

        request = read_request(study)
        with in_its_folder(request):
            watching.stop(request, console)


@search.command()
def status(study: Study) -> None:
    """What was tried, how it ended, what it cost, who is at work on what, the best so far, the front, what matters."""
    with answering():
        from scalelab import search_views, show_search
        from scalelab.readers.optuna_study import open_study
        from scalelab.readers.optuna_trials import IDENTITY
        from scalelab.search.owners import living

        opened = open_study(study)
        found = search_views.view(opened)
        weights = search_views.importances(found, opened)
        show_search.status(found, weights, enough=search_views.ENOUGH, console=console)
        folder = Path(opened.user_attrs.get(IDENTITY, {}).get("folder", ""))
        show_search.at_work(opened, living(folder), now=time.time(), console=console)


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
