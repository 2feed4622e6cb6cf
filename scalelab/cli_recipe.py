"""The commands from laws to what is handed over: recommend, export, confirm, report."""

from pathlib import Path
from typing import Annotated

import typer

from scalelab import completion
from scalelab.answering import AsJson, answering, console
from scalelab.cli_group import HAND_OVER, LAWS
from scalelab.errors import Refused

app = typer.Typer()
Tracker = Annotated[
    str | None, typer.Option("--tracker", help="Keep what is written as an artifact: wandb, wandb:PROJECT.")
]


@app.command(rich_help_panel=LAWS, short_help="A recipe for the size that was never swept.")
def recommend(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="More of the target; with --published keys of conf/train.yaml too.",
            show_default=False,
        ),
    ] = None,
    laws: Annotated[Path | None, typer.Option(help="The laws.json that `fit` wrote.", show_default=False)] = None,
    published: Annotated[
        str | None,
        typer.Option(
            help="Without any run: step-law, deepseek, …, several between commas; `list` prints them.",
            autocompletion=completion.published,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="width=… depth=… tokens=1T batch_tokens=…; repeat or quote."),
    ] = None,
    vocab: Annotated[
        int | None,
        typer.Option(help="With --published: tokens in the vocabulary.", min=1, show_default=False),
    ] = None,
    parametrization: Annotated[
        str | None,
        typer.Option(
            "--parametrization", "-p", help="If several were swept.", autocompletion=completion.parametrizations
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="If several were swept.", autocompletion=completion.optimizers)
    ] = None,
    framework: Annotated[
        list[str] | None,
        typer.Option(
            help="Export it too, into export/ beside the recipe; repeat for several (`export --list`).",
            autocompletion=completion.exporters,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    tracker: Tracker = None,
    json: AsJson = False,
) -> None:
    """Project to a target: a recipe of every value with its source, interval and expected regret, and warnings.

    Without batch_tokens, or with batch_tokens=choose, the batch is chosen where a law says which.
    """
    with answering(json) as answer:
        from scalelab import exporters, show, show_export
        from scalelab import recommend as room
        from scalelab.laws import read as read_laws
        from scalelab.recipe import write_recipe
        from scalelab.spec import as_plain
        from scalelab.target import TARGET_KEYS, parse_target, parted
        from scalelab.trackers.artifacts import accepted_place, keep

        if published == "list":
            rows = list(room.listing())
            console.print(show.grid("", columns := ("name", "gives", "law", "source"), rows, left=4))
            answer({"published": [dict(zip(columns, row, strict=True)) for row in rows]})
            return
        if laws is None and published is None:
            raise Refused("give --laws laws.json, which `scalelab fit` writes, or --published NAME (`list` names them)")
        aimed, overrides = parted(words or [])
        if laws is not None and overrides:
            raise Refused(
                f"{overrides[0]!r} is no part of a target, and with --laws all else is as the runs had it; accepted are"
                f" {', '.join(TARGET_KEYS)}"
            )
        if laws is not None and vocab is not None:
            raise Refused("--vocab with --laws, whose runs had a vocabulary of their own: only with --published")
        if laws is None and (parametrization or optimizer):
            raise Refused("-p and --optimizer choose among your laws: with --published say parametrization=… after --")
        for name in framework or []:
            exporters.exporter_of(name)
        place, aim, sources = accepted_place(tracker), parse_target([*(target or []), *aimed]), list[str]()
        if laws is not None:
            found = read_laws(laws)
            recipe = room.recommend(found, aim, parametrization=parametrization, optimizer=optimizer)
            sources = found.sources
            recipe = recipe if published is None else room.with_published(recipe, published)
        else:
            assert published is not None
            recipe = room.asked(published, aim, overrides, vocab=vocab)
        exports = exporters.made_all(recipe, framework or [], {})  # refuses before anything is written
        write_recipe(recipe, out)
        show.recipe(recipe, console)
        show.say(console, f"written: {out}")
        show_export.exported(exporters.write_all(exports, out.parent / "export"), console)
        answer(as_plain(recipe))
        if place is not None:
            show.say(console, keep(place, "recipe", [out], sources=sources, folder=out.parent))


@app.command(rich_help_panel=HAND_OVER, short_help="A recipe in the words of training frameworks.")
def export(
    recipe: Annotated[
        Path | None, typer.Argument(help="The recipe.yaml that `recommend` wrote.", show_default=False)
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="A framework; repeat for several.", autocompletion=completion.exporters),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("export"),
    options: Annotated[
        list[str] | None, typer.Option("--set", help="OPTION=VALUE of a framework, of those that --list names.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the frameworks and their options.")] = False,
    json: AsJson = False,
) -> None:
    """Write a recipe in the words of training frameworks: each expresses, folds into the weights, or refuses.

    Each has a folder of its name below the one that is given.
    """
    with answering(json) as answer:
        from scalelab import exporters, show_export
        from scalelab.recipe import read_recipe

        if listed:
            show_export.frameworks(console)
            answer(exporters.listing())
            return
        if recipe is None:
            raise Refused("export what? give a recipe.yaml (`scalelab recommend` writes one), or --list")
        if not to:
            raise Refused(f"export to what? give --to, of {', '.join(exporters.EXPORTERS)}")
        written = exporters.export_all(read_recipe(recipe), to, out, exporters.options(options or []))
        show_export.exported(written, console)
        answer({"exported": [each.plain for each in written]})


@app.command(rich_help_panel=HAND_OVER, short_help="A recipe's regret, measured at its target.")
def confirm(
    recipe: Annotated[Path, typer.Argument(help="The recipe.yaml that was run.")],
    runs: Annotated[list[Path], typer.Argument(help="Runs at its target, with its setting and around it.")],
    proxies: Annotated[list[Path] | None, typer.Option(help="The sweep behind the recipe, for its compute.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write confirmation.json there.")] = None,
    json: AsJson = False,
) -> None:
    """Measure a recipe's regret at its target: loss with the recipe minus the best loss found there."""
    with answering(json) as answer:
        from scalelab import confirm as room
        from scalelab import plots, readers, report, show
        from scalelab.recipe import read_recipe

        swept = readers.read(proxies) if proxies else None
        at_target = readers.read(runs)
        found = room.confirm(read_recipe(recipe), at_target, proxies=swept)
        if out is not None:
            room.write(found, out)
            report.save(plots.target(found), out, "target")
        show.confirmation(found, console)
        answer(room.plain(found))


@app.command("report", rich_help_panel=HAND_OVER, short_help="All that a study produced on one page.")
def report_command(
    folder: Annotated[
        Path, typer.Argument(help="A study's folder: runs, checks, laws, recipe, as far as they are there.")
    ],
    title: Annotated[str, typer.Option(help="Headline.")] = "scalelab report",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; report.html in the folder if left out.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Gather a study into one HTML page that needs no other file: figures whose points can be asked, tables, advice.

    A folder of runs without laws is fitted for it.
    """
    with answering(json) as answer:
        from scalelab import report
        from scalelab.console import say

        written = report.write_html(folder, title, out=out, console=console)
        say(console, f"written: {written}")
        answer({"written": [str(written)]})
