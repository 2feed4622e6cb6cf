"""The command line. Every command is a short path through the rooms; heavy imports wait until one is chosen."""

from pathlib import Path
from typing import Annotated

import typer

from scalelab import cli_recipe, cli_search, cli_show, completion
from scalelab.answering import FINE, HELP, NO, AsJson, answering, console
from scalelab.cli_group import BEFORE, LAWS, RUN, InOrder
from scalelab.errors import Refused

app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sweep small proxies, fit how their optimal hyperparameters move with scale, project to the large run.",
    epilog=HELP,
)
app.add_typer(cli_recipe.app)
app.add_typer(cli_show.app)
app.add_typer(cli_search.app)
PASS_THROUGH = {"ignore_unknown_options": True}  # Hydra's flags are among the arguments
Tracker = Annotated[
    str | None, typer.Option("--tracker", help="Keep what is written as an artifact: wandb, wandb:PROJECT.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Keys of conf/train.yaml.", autocompletion=completion.overrides,
        show_default=False,
    ),
]  # fmt: skip


@app.command(context_settings=PASS_THROUGH, rich_help_panel=RUN, short_help="Train proxies: one, a grid, a study.")
def train(
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; run nothing.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="Start from the settings of this recipe.yaml.")] = None,
    following: Annotated[
        int | None,
        typer.Option("--next", help="Of --recipe: its next runs of this number, not its target.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Train proxies: a Hydra app. One run: `train width=64 lr=0.02`; a sweep: `train -m width=64,128 lr=0.01,0.02`.

    A study of sweeps/: `train -m +sweep=lr_width`. A study launched again runs only what is missing. The keys are those
    of conf/train.yaml. --json: with --dry-run the plan, else how every run ended.
    """
    with answering(json) as answer:
        from scalelab import commands

        arguments = list(overrides or ())
        if recipe is not None:
            from scalelab.overrides import of_a_file
            from scalelab.recipe import next_overrides, read_recipe
            from scalelab.target import SIZE_KEYS

            found = read_recipe(recipe)
            if following is None:
                stated = of_a_file(found.overrides, arguments)
            else:
                stated = ["-m", *of_a_file(next_overrides(found, following), arguments), "study=confirm"]
            for argument in arguments:
                if argument.split("=")[0] in SIZE_KEYS:
                    raise Refused(f"{argument} with --recipe, which fixes the size: recommend for that target instead")
            arguments = [*stated, *arguments]
        elif following is not None:
            raise Refused(f"--next {following} without --recipe: which recipe's?")
        status = commands.execute(arguments, dry_run=dry_run, console=console, answer=answer)
    raise typer.Exit(status)


@app.command(rich_help_panel=LAWS, short_help="Fit laws to any table of runs.")
def fit(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders (searched below); CSV, Parquet, JSONL; W&B runs and exports; an Optuna URL.",
            autocompletion=completion.studies,
        ),
    ],
    out: Out = Path("laws"),
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="NAME=THEIRS: which column of a file is which; NAME:=VALUE for every row."),
    ] = None,
    law: Annotated[
        list[str] | None,
        typer.Option(help="Loss laws to fit; the best three if left out.", autocompletion=completion.laws),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Published laws to hold against the runs: step-law,deepseek,chinchilla/epoch.",
            autocompletion=completion.published,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Say what is best at this scale: params_total=7B tokens=1T."),
    ] = None,
    propose: Annotated[
        bool, typer.Option("--next", help="With --target: propose the runs that say most about it.")
    ] = False,
    budget: Annotated[float | None, typer.Option(help="FLOPs of what --next proposes.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=100)] = 1000,
    plots: Annotated[bool, typer.Option(help="Draw the figures too.")] = True,
    tracker: Tracker = None,
    json: AsJson = False,
) -> None:
    """Fit laws to any table of runs: how the loss and the best learning rate, batch, weight decay move with scale."""
    with answering(json) as answer:
        from scalelab import fitting

        if (propose or budget is not None) and not target:
            raise Refused("--next says what to run for a target: give --target too, for example tokens=1T")
        asked = fitting.Request(
            runs=runs, out=out, columns=column or [], laws=_names(law), compare=_names(compare),
            target=fitting.parse_scale(target or []), propose=propose, budget_flops=budget, seed=seed, draws=draws,
            plots=plots, tracker=tracker,
        )  # fmt: skip
        answer(fitting.execute(asked, console))


def _names(given: list[str] | None) -> list[str] | None:
    """Names given one by one or between commas."""
    return None if given is None else [name for item in given for name in item.replace(",", " ").split()]


@app.command(
    context_settings=PASS_THROUGH, rich_help_panel=BEFORE, short_help="Does the parametrization do what it says?"
)
def check(
    overrides: Overrides = None,
    widths: Annotated[str | None, typer.Option(help="Widths to compare: 64,128,256,512 if left out.")] = None,
    depths: Annotated[str | None, typer.Option(help="Depths to compare instead of widths.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps: 4, of --stability and --spectrum the whole run.", min=1, show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds to average over.", min=1)] = 3,
    gradients: Annotated[bool, typer.Option("--gradients", help="Instead: does eps follow the gradients?")] = False,
    lazy: Annotated[bool, typer.Option("--lazy", help="Instead: do residual branches become linear?")] = False,
    stability: Annotated[bool, typer.Option("--stability", help="Instead: do logits, norms, updates grow?")] = False,
    spectrum: Annotated[bool, typer.Option("--spectrum", help="Instead: do top singular values stay?")] = False,
    target_width: Annotated[int | None, typer.Option(help="Of --stability: extrapolate there.", min=1)] = None,
    target_depth: Annotated[int | None, typer.Option(help="The same, with --depths.", min=1)] = None,
    out: Out = Path("check"),
    json: AsJson = False,
) -> None:
    """Coordinate check: do activations and their updates keep their size as the network grows? Exit 1 if not.

    Further arguments are keys of conf/train.yaml: `check parametrization=sp lr=0.02`.
    """
    with answering(json) as answer:
        from scalelab import checks

        flags = {"gradients": gradients, "lazy": lazy, "stability": stability, "spectrum": spectrum}
        chosen = [name for name, given in flags.items() if given]
        if len(chosen) > 1:
            raise Refused(f"{' with '.join(f'--{name}' for name in chosen)}: one check at a time")
        if (target_width if depths is not None else target_depth) is not None:
            raise Refused("--target-width goes with --widths, --target-depth with --depths")
        found = checks.check(
            list(overrides or ()), kind=chosen[0] if chosen else "coordinate", widths=widths, depths=depths,
            steps=steps, seeds=seeds, target=target_width or target_depth, out=out, console=console,
        )  # fmt: skip
        answer(found)
    raise typer.Exit(FINE if found["passed"] else NO)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show:
        from scalelab import __version__

        console.print(__version__, highlight=False)
        raise typer.Exit


if __name__ == "__main__":
    app()
