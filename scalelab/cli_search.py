"""The commands around a search: the bounds before it, and what it has found, while it runs and after."""

import time
from pathlib import Path
from typing import Annotated

import typer

from scalelab import completion
from scalelab.answering import AsJson, answering, console
from scalelab.cli_group import BEFORE, RUN
from scalelab.errors import Refused

app = typer.Typer()
search = typer.Typer(
    no_args_is_help=True,
    help="Run a search with any number of workers, look at it, stop it; look at any Optuna study.",
)
app.add_typer(search, name="search", rich_help_panel=RUN, short_help="Search: run, attach, stop, status, plot.")


PASS_THROUGH = {"ignore_unknown_options": True}
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", autocompletion=completion.overrides, show_default=False),
]


@app.command(
    "lr-range", context_settings=PASS_THROUGH, rich_help_panel=BEFORE, short_help="Bounds for a search of the rate."
)
def lr_range(
    overrides: Overrides = None,
    widths: Annotated[str, typer.Option(help="Widths to test.")] = "32,64,128",
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-4,
    highest: Annotated[float, typer.Option(help="That of the last one.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Training steps.", min=20)] = 100,
    seeds: Annotated[int, typer.Option(help="Seeds to average over.", min=1)] = 2,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("lr_range"),
    json: AsJson = False,
) -> None:
    """Bounds for a search of the learning rate: one short run a width in which it rises until the loss does.

    Further arguments are keys of conf/train.yaml: `lr-range parametrization=sp --widths 64,128,256`.
    """
    with answering(json) as answer:
        from scalelab import ranging

        found = ranging.lr_range(
            list(overrides or ()), widths=widths, lowest=lowest, highest=highest, steps=steps, seeds=seeds, out=out,
            console=console,
        )  # fmt: skip
        answer(found)


Study = Annotated[
    str,
    typer.Argument(
        help="The folder of a search, a *.db or *.journal file, or a storage's URL; #NAME if several.",
        autocompletion=completion.studies,
    ),
]
Folder = Annotated[Path, typer.Argument(help="The study's folder, runs/NAME.", autocompletion=completion.studies)]


@search.command(context_settings=PASS_THROUGH, short_help="Search, with any number of workers, on any nodes.")
def run(
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(help="Processes of this machine that train, without an engine.")] = 1,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background, and return at once.")] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
    json: AsJson = False,
) -> None:
    """Search, asking the next trial as soon as one has ended; any number of times on one study, on any nodes.

    The arguments are those of `train -m hydra/sweeper=optuna …`. With hydra/launcher=slurm or ray the runs are handed
    over, hydra.sweeper.n_jobs at a time; otherwise this process trains, one trial at a time.
    """
    with answering(json) as answer:
        if detach and json:
            raise Refused("--json with --detach, which answers before it has found anything: `search status --json`")
        from scalelab.search.problem import problem_of
        from scalelab.searching import working
        from scalelab.searching.request import request_of

        request = request_of(overrides or (), workers=workers)
        if worker:
            working.work(request, console)
            raise typer.Exit(0)
        problem = problem_of(request.asked)
        working.check(request, problem)
        request.write(problem.folder)
        if detach:
            working.detach(request, console)
            raise typer.Exit(0)
        status = working.conduct(request, console, answer)
    raise typer.Exit(status)


@search.command()
def attach(study: Folder, json: AsJson = False) -> None:
    """Show how a search goes on; where nobody is at work on it any more, go on with it."""
    with answering(json) as answer:
        from scalelab.searching import working

        status = working.attach(study, console, answer)
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
def status(study: Study, json: AsJson = False) -> None:
    """What was tried, how it ended, what it cost, who is at work on what, the best so far, the front, what matters."""
    with answering(json) as answer:
        from scalelab import search_json, search_views, show_search
        from scalelab.readers.optuna_study import open_study
        from scalelab.readers.optuna_trials import IDENTITY
        from scalelab.search.owners import living

        opened = open_study(study)
        found = search_views.view(opened)
        weights = search_views.importances(found, opened)
        drivers = living(Path(opened.user_attrs.get(IDENTITY, {}).get("folder", "")))
        if json:
            answer(search_json.status(found, weights, opened, drivers, now=time.time()))
        else:
            show_search.status(found, weights, enough=search_views.ENOUGH, console=console)
            show_search.at_work(opened, drivers, now=time.time(), console=console)


@search.command()
def plot(
    study: Study,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("search"),
    json: AsJson = False,
) -> None:
    """Draw the front, the history, slices, parallel coordinates, importances."""
    with answering(json) as answer:
        from scalelab import report, search_views
        from scalelab.plots.searched import searched
        from scalelab.readers.optuna_study import open_study

        opened = open_study(study)
        written = []
        for name, figure in searched(search_views.view(opened), opened):
            report.save(figure, out, name)
            written.append(name)
        console.print(f"written: {out}/{{{','.join(written)}}}.png and .svg", highlight=False, markup=False)
        answer({"written": [str(out / f"{name}.{kind}") for name in written for kind in ("png", "svg")]})
