"""What must not get out, what must not get in: secrets, paths, pickles, and names that are more than names."""

import ast
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from rich.console import Console

from scalelab import report
from scalelab.answering import answering
from scalelab.console import grid, say
from scalelab.errors import Refused
from scalelab.jobs import run_job
from scalelab.overrides import of_a_file, overrides_of
from scalelab.recipe import read_recipe
from scalelab.secrets import refuse_secret_overrides, refuse_secrets, scrubbed
from scalelab.trials import Outcome, RunFolder
from tests.conftest import ROOT, make_spec
from tests.helpers import TINY, one_line, scalelab, sweep, tree, valley

SECRET = "hunter2-Zq8Xv0pLm4"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


# --- secrets ----------------------------------------------------------------------------------------------------------


PLANTED = {
    "in the environment of jobs": f"hydra.job.env_set.WANDB_API_KEY={SECRET}",
    "in a new key": f"+api_key={SECRET}",
    "in a tracker": f"+tracker.api_key={SECRET}",
    "as a token": f"+data.hf_token={SECRET}",
    "in a URL": f"data.path=s3://me:{SECRET}@bucket/tokens.bin",
    "in what is swept": f"+password={SECRET},other",
    "by its value": f"study=of-{SECRET}",
    "as a default": f"+hydra.job.env_set.HF_TOKEN='${{oc.env:HF_TOKEN,{SECRET}}}'",
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
def test_a_secret_is_refused_without_repeating_it_and_nothing_is_written(
    planted: str, multirun: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    line = one_line(scalelab("train", *multirun, *TINY, planted))
    assert SECRET not in line and "oc.env:" in line
    assert tree(folder) == {}


def test_a_reference_that_would_be_written_resolved_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    line = one_line(scalelab("train", *TINY, "study=${oc.env:HF_TOKEN}"))
    assert "study stands for a secret" in line and SECRET not in line and tree(folder) == {}


def test_a_secret_in_a_configuration_file_is_refused(folder: Path) -> None:
    (folder / "mine").mkdir()
    text = f"# @package _global_\nhydra:\n  job:\n    env_set:\n      DB_PASSWORD: {SECRET}\n"
    (folder / "mine" / "own.yaml").write_text(text)
    line = one_line(scalelab("train", "--config-dir", "mine", *TINY, "+own@_global_=own", "+x=1"))
    assert SECRET not in line


ACCEPTED = (
    "tokens=640", "+max_tokens=3", "data.bytes_per_token=4.5", "study=tokenizer", "out=sqlite:///a.db",
    "hydra.job.env_set.WANDB_API_KEY=${oc.env:WANDB_API_KEY}", "hydra.job.env_set.X_TOKEN='${oc.env:X_TOKEN,null}'",
    "hydra.sweeper.storage=postgresql://me:${oc.env:PGPASSWORD}@db/runs", "optimizer.clip_norm=null", "+api_key=null",
)  # fmt: skip


@pytest.mark.parametrize("override", ACCEPTED)
def test_what_is_no_secret_is_not_refused(override: str) -> None:
    refuse_secret_overrides([override])
    key, _, value = override.lstrip("+").partition("=")
    refuse_secrets({key: value.strip("'")})


def test_a_path_or_a_word_in_the_environment_is_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder))
    monkeypatch.setenv("PGPASSWORD", "postgres")
    monkeypatch.setenv("API_TOKEN", "")
    refuse_secrets({"out": str(folder), "hydra": {"sweeper": {"storage": "postgresql://postgres@db/runs"}}})


def test_secrets_are_blotted_out_of_what_passes_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    said = scrubbed(f"OperationalError: mysql+pymysql://me:pw@db/x did not like {SECRET}, nor {SECRET}s")
    assert said == f"OperationalError: mysql+pymysql://me:***@db/x did not like ***, nor {SECRET}s"


def test_a_reason_holds_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"401 for key {SECRET}")

    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr("scalelab.train.run", failing)
    with pytest.raises(RuntimeError):
        run_job(make_spec(width=32), RunFolder(folder))
    assert RunFolder(folder).read().reason == "RuntimeError: 401 for key ***"


@pytest.mark.parametrize("launcher", ["basic", "joblib", pytest.param("fused", marks=pytest.mark.slow)])
def test_a_sweep_writes_no_secret_of_the_environment(
    launcher: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "HF_TOKEN", "MY_OWN_SECRET", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    named = () if launcher == "fused" else ("+hydra.job.env_set.MY_OTHER_TOKEN='${oc.env:MY_OWN_SECRET}'",)
    workers = {"fused": ("hydra.launcher.workers=1",), "joblib": ("hydra.launcher.n_jobs=1",)}.get(launcher, ())
    told = ("tracker=wandb",) if launcher == "basic" else ()
    ran = scalelab("train", "-m", f"hydra/launcher={launcher}", *workers, *TINY, "seed=0,1", *named, *told)
    assert ran.exit_code == 0, ran.output
    assert len(list(folder.rglob("trial.json"))) == 2 and SECRET.encode() not in everything(folder)
    if named:
        assert b"${oc.env:MY_OWN_SECRET}" in everything(folder)


# --- places -----------------------------------------------------------------------------------------------------------


OUTSIDE = ("study=../x", "study=a/../../b", "study=/tmp/elsewhere", "study=linked/x",
           'study="a\nb"', "out='a\x1b[2Jb'", "study='a\x00b'", "hydra.output_subdir=../../x",
           "hydra.output_subdir=/tmp/x", "hydra.sweep.subdir=../../x")  # fmt: skip


@pytest.mark.parametrize("given", OUTSIDE, ids=ascii)
def test_a_folder_out_of_the_asked_one_is_refused(given: str, folder: Path, tmp_path_factory: Any) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "linked").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    line = one_line(scalelab("train", "-m", *TINY, given))
    assert "\x1b" not in line and tree(folder) == {}


def test_out_itself_may_be_a_link(folder: Path, tmp_path_factory: Any) -> None:
    (folder / "runs").symlink_to(tmp_path_factory.mktemp("scratch"))
    assert scalelab("train", *TINY, "--dry-run").exit_code == 0


def test_the_names_of_a_table_are_no_paths(folder: Path) -> None:
    rows = [
        f"../../evil/<script>,sgd,{width},{lr},{width * 3000},{3 - width / 500 + (lr - 0.1) ** 2}"
        for width in (32, 64, 128, 256)
        for lr in (0.02, 0.05, 0.1, 0.2, 0.4)
    ]
    inside = folder / "inside" / "deep"
    inside.mkdir(parents=True)
    head = "parametrization,optimizer,width,lr,params_non_embedding,loss_nats"
    (inside / "a.csv").write_text("\n".join([head, *rows]))
    ran = scalelab(
        "fit", str(inside / "a.csv"), "-o", str(inside / "laws"), "-t", "width=1024", "--next", "--draws", "100"
    )
    assert ran.exit_code in (0, 2), ran.output
    written = {file for file in folder.rglob("*") if file.is_file()}
    assert all(file.is_relative_to(inside) for file in written) and (inside / "laws" / "laws.json") in written
    assert all("evil" not in part for file in written for part in file.relative_to(inside).parts[:-1])
    page = (inside / "laws" / "laws.html").read_text()
    assert "evil/<script>" not in page and "evil/&lt;script&gt;" in page


# --- names on a terminal ----------------------------------------------------------------------------------------------


def printed(print_it: Callable[[Console], None]) -> str:
    out = StringIO()
    print_it(Console(file=out, width=100, force_terminal=True, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize("name", ["[red]x", "[/]", "[link=https://evil]x[/link]"])
def test_a_name_is_no_markup(name: str, folder: Path) -> None:
    assert name in printed(lambda console: say(console, name))
    assert name in printed(lambda console: console.print(grid(name, (name, "b"), [(name, "1")])))
    result = scalelab("train", *TINY, f"study='{name.replace('/', '_')}'", "--dry-run")
    assert result.exit_code == 0, result.output


def test_a_terminal_is_told_nothing_by_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;owned\x07\x9b2J\u202e"
    for text in (
        printed(lambda console: say(console, name)),
        printed(lambda console: console.print(grid(name, ("a", name), [(name, name)]))),
    ):
        assert "\\x1b]0;owned\\x07\\x9b2J\\u202e" in text and not set("\x1b\x07\x9b\u202e") & set(text)
    with pytest.raises(typer.Exit), answering():
        raise Refused(f"column {name}\nand more")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("scalelab: column a\\x1b]0;owned") and "\x1b" not in line


# --- pickles, YAML, what is instantiated ------------------------------------------------------------------------------


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_a_checkpoint_that_is_a_program_is_set_aside_and_not_run(kind: str, folder: Path) -> None:
    spec, run, mark = make_spec(width=32), RunFolder(folder / "run"), folder / "owned"
    run.path.mkdir()
    if kind == "torch":
        torch.save({"fingerprint": spec.fingerprint, "step": 1, "network": Payload(mark)}, run.path / "checkpoint.pt")
    else:
        (run.path / "checkpoint.pt").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.warns(UserWarning, match="checkpoint.pt"):
        trial = run_job(spec, run)
    assert trial is not None and trial.outcome is Outcome.OK and not mark.exists()
    assert (run.path / "checkpoint.pt.unusable").exists()


# What processes hand to those that they have started: an error over a pipe, an order in a folder of theirs alone or
# through Ray, which hands on pickles itself.
PICKLES = {(f"scalelab/{file}.py", "pickle.loads") for file in ("workers/serve", "workers/rank", "engines/ray_worker")}


READS_PICKLES = re.compile(
    r"(^|\.)(read_pickle|Unpickler|unsafe_load|full_load|load_all)$|^yaml\.load$"
    r"|^(_?pickle|cloudpickle|dill|joblib|shelve|marshal)\.(load|loads|open)$"
)


def test_nothing_reads_pickles_or_makes_objects_of_yaml() -> None:
    found = set()
    for file in sorted([*ROOT.glob("scalelab/**/*.py"), *ROOT.glob("hydra_plugins/**/*.py")]):
        place = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            if READS_PICKLES.search(name):
                found.add((place, name))
            if name == "torch.load" and given.get("weights_only") != "True":
                found.add((place, name))
            if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
                found.add((place, name))
    assert found <= PICKLES, found - PICKLES


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with its laws and a recipe."""
    folder = tmp_path_factory.mktemp("study")
    sweep(folder / "runs" / "s", valley())
    laws, recipe = str(folder / "laws"), str(folder / "recipe.yaml")
    assert scalelab("fit", str(folder / "runs" / "s"), "--no-plots", "--draws", "100", "-o", laws).exit_code == 0
    assert scalelab("recommend", "--laws", f"{laws}/laws.json", "-t", "width=256", "-o", recipe).exit_code == 0
    return folder


@pytest.fixture
def recipe(studied: Path, folder: Path) -> Path:
    shutil.copytree(studied / "laws", folder / "laws")
    return Path(shutil.copy(studied / "recipe.yaml", folder))


HOSTILE = (
    "hydra.callbacks.a._target_=os.system", "+hydra.callbacks.a={_target_: os.system}", "out=/tmp/elsewhere",
    "hydra/launcher=joblib", "data.path='${oc.env:HOME}'", "model=../../x", "data@hydra.job=embedded",
    "--config-dir=/tmp", "tracker=wandb", "trainer.argv=[rm,-rf,x]", "~lr", "hydra.searchpath=[file:///tmp]",
)  # fmt: skip


def test_a_recipe_sets_nothing_but_a_run(recipe: Path, folder: Path) -> None:
    good = yaml.safe_load(recipe.read_text())
    assert scalelab("train", "--recipe", "recipe.yaml", "--dry-run").exit_code == 0
    for hostile in HOSTILE:
        recipe.write_text(yaml.safe_dump({**good, "overrides": [*good["overrides"], hostile]}))
        line = one_line(scalelab("train", "--recipe", "recipe.yaml", "--dry-run"))
        assert "a recipe that states" in line, hostile
    assert not (folder / "runs").exists()


def test_a_command_is_run_where_the_command_line_says_so_too() -> None:
    stated = ["lr=0.1", "trainer=command", "trainer.argv=[python,theirs.py]", "++trainer.env.A=b"]
    assert of_a_file(stated, ["trainer=plain"]) == ["lr=0.1"]
    with pytest.raises(Refused, match="what a file says is not run"):
        of_a_file(stated, ["seed=3"])


def test_a_recipe_of_objects_is_no_recipe(recipe: Path, folder: Path) -> None:
    recipe.write_text(recipe.read_text().replace("why:", f"why: !!python/object/apply:os.mkdir [{folder / 'owned'}] #"))
    with pytest.raises(Refused, match="is not a recipe"):
        read_recipe(recipe)
    assert not (folder / "owned").exists()


def test_what_stands_for_a_value_is_not_written_for_hydra_to_resolve() -> None:
    spec = make_spec(width=32)
    hostile = replace(spec, data=replace(spec.data, options=(("path", "${oc.env:HOME}"),)))
    with pytest.raises(Refused, match="not what stands for them"):
        overrides_of(hostile)


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("recipe")
def test_a_page_shows_names_and_runs_none_of_them(folder: Path) -> None:
    name = "<script>alert(1)</script>"
    page = Path(report.write_html(folder, name)).read_text()
    assert name not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
