"""The command line as a whole: order, one line for a mistake, one JSON object for a program, colours, completion."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from scalelab import completion
from scalelab.answering import strict
from scalelab.cli import app
from scalelab.cli_group import ORDER
from tests.helpers import TINY, one_line, scalelab, squeezed, sweep, valley

COMMANDS = dict(get_command(app).commands)  # type: ignore[attr-defined]
SEARCH = COMMANDS["search"].commands


def program(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command line as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "scalelab.cli", *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={name: value for name, value in {**os.environ, **environment}.items() if value != "unset"},
    )  # fmt: skip


def constant(text: str) -> None:
    raise AssertionError(f"no JSON: {text}")


def answer(*arguments: str, status: int = 0) -> Any:
    """The one JSON value that a command prints on standard output."""
    result = scalelab(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout, parse_constant=constant)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_has_the_commands_in_the_order_of_the_work() -> None:
    shown = scalelab("--help").output
    names = re.findall(r"^│ ([a-z][\w-]+) +[A-Z]", shown, flags=re.MULTILINE)
    assert names == list(ORDER)
    assert set(COMMANDS) == set(ORDER)


def test_every_line_of_help_is_short_and_says_the_exit_statuses() -> None:
    shown = scalelab("--help").output
    for name in ORDER:
        assert len(re.findall(rf"^│ {name} ", shown, flags=re.MULTILINE)) == 1
    said = squeezed(shown)
    for status in ("0 fine", "1 the answer is no", "2 a mistake", "130 interrupted", "143 asked to stop"):
        assert status in said


def test_the_same_option_has_the_same_short_name_and_meaning_everywhere() -> None:
    meant: dict[str, set[str]] = {}
    for command in (*COMMANDS.values(), *SEARCH.values()):
        for parameter in command.params:
            short = [name for name in parameter.opts if re.fullmatch("-[a-z]", name)]
            for name in short:
                meant.setdefault(name, set()).update(opt for opt in parameter.opts if opt.startswith("--"))
    assert {name: names for name, names in meant.items() if len(names) > 1} == {}
    assert meant["-o"] == {"--out"} and meant["-t"] == {"--target"} and meant["-p"] == {"--parametrization"}


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit"], "missing argument 'runs'"),
        (["fit", "--wrong", "x"], "no such option: --wrong"),
        (["fti"], "no such command 'fti'. Did you mean 'fit'?"),
        (["check", "--seeds", "0"], "'--seeds'"),
        (["search", "sttus"], "sttus"),
        (["tables", "mupp"], "did you mean 'mup'?"),
    ],
)
def test_a_mistake_is_one_line_and_for_programs_an_object(arguments: list[str], said: str) -> None:
    line = one_line(scalelab(*arguments))
    assert said in line
    result = scalelab(*arguments, "--json")
    assert one_line(result) == line
    assert json.loads(result.stdout) == {"error": line.removeprefix("scalelab: ")}


def test_a_mistaken_name_cannot_steer_a_terminal() -> None:
    result = scalelab("tables", "mup\x1b[2J\n")
    assert "\x1b" not in one_line(result) and "\\x1b[2J" in result.stderr


def test_a_reader_that_goes_away_is_no_mistake(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "scalelab.cli", "tables"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writer)
    assert ran.returncode == 128 + signal.SIGPIPE and ran.stderr == b""


def heeding_interruptions() -> None:
    """A shell's background jobs ignore them, and so does all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_and_a_stop_have_their_status(folder: Path, number: signal.Signals, status: int) -> None:
    runs = [*TINY, "tokens=6400000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scalelab.cli", "train", *runs, "--json"], preexec_fn=heeding_interruptions,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not list(folder.rglob("metrics.jsonl")) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        said, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (status, -number), told
    assert said == b"" and b"Traceback" not in told


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_numbers_that_json_has_not_are_null_or_text() -> None:
    assert strict({"a": float("nan"), 1: [float("inf"), (-float("inf"), True)]}) == {
        "a": None,
        "1": ["inf", ["-inf", True]],
    }


def test_every_command_that_says_something_has_json() -> None:
    without = {
        name for name, command in COMMANDS.items() if "--json" not in {o for p in command.params for o in p.opts}
    }
    assert without <= {"search"}
    without = {name for name, command in SEARCH.items() if "--json" not in {o for p in command.params for o in p.opts}}
    assert without == {"stop"}


def test_tables_and_what_they_differ_in() -> None:
    listed = answer("tables")["tables"]
    assert {"name", "title", "source", "transfers", "families"} <= set(listed[0])
    one = answer("tables", "mup", "--optimizer", "adamw")
    (hidden,) = [rule for rule in one["rules"] if (rule["role"], rule["family"]) == ("hidden", "adam")]
    assert hidden["lr"] == "1/m_in" and one["sites"]["attention logits"] == "1/m_head"
    assert {rule["family"] for rule in one["rules"]} == {"adam"}
    found = answer("compare", "mup", "mup_package")
    assert not found["equal"] and found["verdict"] == "equal but for eps (adam)"
    assert {cell["column"] for cell in found["cells"] if not cell["equal"]} == {"eps"}


def test_a_plan_and_how_its_runs_ended(folder: Path) -> None:
    runs = ["train", "-m", *TINY, "lr=0.01,0.02", "seed=0"]
    plan = answer(*runs, "--dry-run")
    assert plan["runs_to_do"] == 2 and plan["cost_flops_to_do"] == sum(run["cost_flops"] for run in plan["runs"])
    assert [run["lr"] for run in plan["runs"]] == [0.01, 0.02] and not (folder / "runs").exists()
    ended = answer(*runs)
    assert ended["outcomes"] == {"OK": 2} and ended["runs_not_ended"] == 0
    assert [run["fingerprint"] for run in ended["runs"]] == [run["fingerprint"] for run in plan["runs"]]
    trial = json.loads((Path(ended["runs"][0]["folder"]) / "trial.json").read_text())
    assert ended["runs"][0]["loss_nats"] == trial["loss_nats"]
    assert answer(*runs) == ended  # nothing is left to do
    assert answer(*runs, "--dry-run")["runs_to_do"] == 0


def test_what_a_process_prints_does_not_reach_a_programs_json(folder: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from scalelab.answering import answering, console\n"
        "with answering(True) as answer:\n"
        "    print('for people'); console.print('for people')\n"
        "    os.write(1, b'by C\\n'); subprocess.run(['echo', 'by a child'])\n"
        "    answer({'a': 1})\n"
        "print('after')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout.removesuffix("after\n")) == {"a": 1}
    assert sorted(ran.stderr.splitlines()) == ["by C", "by a child", "for people", "for people"]


def test_a_question_to_hydra_has_no_json(folder: Path) -> None:
    assert "Hydra" in answer("train", "--cfg", "job", status=2)["error"]
    assert "lr:" in scalelab("train", "--cfg", "job").stdout


def test_a_run_that_fails_is_told_with_status_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scalelab import commands

    def failed(*_: object, **__: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(commands, "launch", failed)
    ended = answer("train", *TINY, status=1)
    assert ended["runs_not_ended"] == 1 and ended["runs"][0]["outcome"] is None


def test_a_fit_and_its_projection(folder: Path) -> None:
    sweep(folder / "runs", valley(exponent=-0.5))
    found = answer("fit", "runs", "--no-plots", "--draws", "100", "-t", "width=256")
    assert found["laws"] == json.loads((folder / "laws" / "laws.json").read_text())
    (at,) = found["at_target"]
    assert at["target"] == {"width": 256} and at["settings"]["lr"]["low"] < at["settings"]["lr"]["value"]
    assert "laws/laws.json" in found["written"] and all((folder / file).exists() for file in found["written"])


def test_what_status_and_collect_say(folder: Path) -> None:
    sweep(folder / "runs" / "study", valley(), widths=(32,), seeds=(0,), log2_lrs=range(-8, -5))
    (study,) = answer("status")["studies"]
    assert study["folder"] == "runs/study" and study["states"]["OK"] == 3
    pytest.importorskip("pyarrow")
    (collected,) = answer("collect", "runs")["studies"]
    assert (collected["runs"], collected["new"], collected["unreadable"]) == (3, 3, 0)
    assert (folder / collected["file"]).exists()


@pytest.mark.slow
def test_checks_and_ranges_and_searches(folder: Path) -> None:
    quick = [argument for argument in TINY if not argument.startswith(("width", "base"))]
    check = answer("check", *quick, "--widths", "64,128", "--seeds", "1", "parametrization=mup")
    assert check["passed"] and json.loads((folder / check["written"]).read_text())["slopes"] == check["slopes"]
    assert not answer("check", *quick, "--widths", "64,256", "--seeds", "1", "parametrization=sp", status=1)["passed"]
    ranged = [*(argument for argument in quick if not argument.startswith("tokens")), "tokens=6400"]
    found = answer("lr-range", *ranged, "--widths", "32", "--seeds", "1", "--steps", "100")
    assert found["override"].startswith("lr=tag(log, interval(") and (folder / found["written"]).exists()
    asked = ["-m", "hydra/sweeper=optuna", *TINY, "lr=tag(log, interval(0.001, 0.1))", "hydra.sweeper.n_trials=3"]
    before = answer("train", *asked, "--dry-run", "study=s")
    assert before["trials_left"] == 3 and before["budget_flops"] == "inf"
    ended = answer("train", *asked, "study=s")
    assert ended["went_to_its_end"] and ended["winner"]["values"]["loss_nats"] > 0
    seen = answer("search", "status", "runs/s")
    assert len(seen["trials"]) == 3 and seen["best"]["loss_nats"] == ended["winner"]["values"]["loss_nats"]
    assert all((folder / file).exists() for file in answer("search", "plot", "runs/s")["written"])
    assert "error" in answer("search", "attach", "runs/s", status=2)  # it was no `search run`
    ran = answer("search", "run", *asked[1:], "study=t")
    assert ran["went_to_its_end"] and answer("search", "attach", "runs/t") == ran


# --- colours ----------------------------------------------------------------------------------------------------------


def test_pipes_have_no_colours_unless_they_are_asked_for() -> None:
    bare = {"NO_COLOR": "unset", "FORCE_COLOR": "unset"}
    assert "\x1b" not in program("compare", "mup", "sp", **bare).stdout
    forced = program("compare", "mup", "sp", **bare | {"FORCE_COLOR": "1"}).stdout
    assert "\x1b[" in forced and not re.search(r"\x1b\[[^m]*[^0-9;m]", forced)  # colours, and no moves of a cursor
    assert re.sub(r"\x1b\[[0-9;]*m", "", forced) == program("compare", "mup", "sp", **bare).stdout
    assert not re.search(
        r"\x1b\[[0-9;]*3\d", program("tables", "mupp", **bare | {"NO_COLOR": "1", "FORCE_COLOR": "1"}).stderr
    )
    assert "\x1b" not in program("tables", "mup", "--json", **bare | {"FORCE_COLOR": "1"}).stdout


# --- completion -------------------------------------------------------------------------------------------------------


def completed(words: str, cword: int | None = None) -> list[str]:
    """What bash would be offered."""
    split = words.split(" ")
    ran = subprocess.run(
        [sys.executable, "-c", "from scalelab.cli import app; app([], prog_name='scalelab')"],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "_SCALELAB_COMPLETE": "complete_bash", "COMP_WORDS": words,
             "COMP_CWORD": str(cword or len(split) - 1)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_names_are_completed() -> None:
    assert completed("scalelab re") == ["recommend", "report"]
    assert completed("scalelab tables completep") == ["completep", "completep_half"]
    assert "lingle" in completed("scalelab compare mup l")
    assert completed("scalelab fit --compare step_law,deep") == ["step_law,deepseek"]


def test_keys_of_a_run_are_completed_also_where_bash_parts_them() -> None:
    assert completed("scalelab train --dry-run parametrization=completed") == [
        "parametrization=completed_p", "parametrization=completed_p_half"
    ]  # fmt: skip
    assert completed("scalelab train parametrization = u_", 4) == ["u_mup"]
    studies = completed("scalelab train -m +sweep = ", 5)
    assert {"demo/proxies", "cost_aware/gpu_iso_064"} < set(studies)
    assert not [name for name in studies if "shared" in name or "/change/" in name], "parts of studies"
    assert completed("scalelab train weight_decay_p") == ["weight_decay_policy="]


@pytest.mark.parametrize(
    ("incomplete", "some"),
    [
        ("hydra/launcher=", "hydra/launcher=slurm"), ("model=", "model=vit"), ("+sw", "+sweep="),
        ("optimizer=adamw,li", "optimizer=adamw,lion"), ("tok", "tokens="), ("../../etc=", None),
    ],
)  # fmt: skip
def test_values_come_from_the_configuration(incomplete: str, some: str | None) -> None:
    class Context:
        params: dict[str, Any] = {}  # noqa: RUF012

    found = completion.overrides(Context(), incomplete)  # type: ignore[arg-type]
    assert some in found if some else found == []


def test_the_names_of_laws_are_those_of_the_laws() -> None:
    from scalelab.laws.forms import LAWS, PUBLISHED

    assert tuple(LAWS) == completion.LAWS
    assert tuple(dict.fromkeys(key.split("/")[1] for key in PUBLISHED)) == completion.PUBLISHED


def test_studies_are_completed(folder: Path) -> None:
    for name in ("runs/one", "runs/two", "elsewhere"):
        (folder / name).mkdir(parents=True)
    assert completion.studies("") == ["elsewhere", "runs", "runs/one", "runs/two"]
    assert completion.studies("runs/t") == ["runs/two"]


def test_completion_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from scalelab import completion as c\n"
        "import scalelab.cli\n"
        "c.parametrizations(''), c.references(''), c.optimizers(''), c.laws(''), c.studies(''), c.exporters('')\n"
        "class Context: params = {}\n"
        "c.overrides(Context(), 'model='), c.overrides(Context(), '')\n"
        "print([n for n in ('torch', 'hydra', 'optuna', 'scipy', 'pandas', 'matplotlib') if n in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
    before = os.times().children_user
    completed("scalelab tables mu")
    assert os.times().children_user - before < 0.5  # seconds of a core: others may be at work beside this test


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_every_shell(shell: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "from scalelab.cli import app; app(['--show-completion'], prog_name='scalelab')"],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "", "SHELL": f"/bin/{shell}",
             "_SCALELAB_COMPLETE": f"source_{shell}"},
    )  # fmt: skip
    assert ran.returncode == 0 and f"complete_{shell}" in ran.stdout, ran.stdout + ran.stderr
