"""Commands by the command line: plans, sweeps in workers, searches, fits and recipes know nothing of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scalelab.programs import members
from scalelab.readers import read
from scalelab.trials import Outcome, run_folders
from scalelab.trunks import branches
from scalelab.workers.tasks import tasks
from tests.command.commanding import TRAINER, commanded, keys
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed, sweep, valley

# A trainer whose loss is a parabola in log2 lr, the same at each width: what muP says of a run at its best.
PARABOLA = """
import json, math, sys
lr, width, seed, folder = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
loss = 3 - 0.1 * math.log2(width / 32) + 0.05 * (math.log2(lr) + 6) ** 2 + 0.002 * (-1) ** seed
with open(folder + "/log.jsonl", "a") as log:
    for step in (0, 10):
        log.write(json.dumps({"step": step, "loss": loss + 0.1, **({"validation_loss": loss} if step else {})}) + "\\n")
if lr > 0.3:
    sys.exit(3)
"""
SMALL = ("context=16", "tokens=640", "batch_tokens=64", "base.width=32", "data=external", "data.dataset=tiny@1",
         "data.vocab=256")  # fmt: skip


@pytest.fixture
def parabola(tmp_path: Path) -> list[str]:
    """Arguments of a run by that trainer."""
    script = tmp_path / "parabola.py"
    script.write_text(PARABOLA)
    words = f'["{{python}}","{script}","{{lr}}","{{width}}","{{seed}}","{{folder}}"]'
    return [
        *SMALL,
        "trainer=command",
        f"trainer.argv={words}",
        "+trainer.outcomes.3=diverged",
        f"out={tmp_path / 'runs'}",
    ]


def test_the_plan_shows_the_command(parabola: list[str], tmp_path: Path) -> None:
    result = scalelab("train", "--dry-run", "-m", *parabola, "width=32,64,128", "study=s")
    assert result.exit_code == 0, result.output
    said = squeezed(result.output)
    assert said.count("parabola.py") == 2 and "OMP_NUM_THREADS=1" in said
    assert "3 to do: 1,920 tokens" in said and "by commands, whose time is not known" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("more", [["width=32,64"], ["width=64"]])
def test_a_name_that_is_unknown_is_refused_before_anything_is_run(
    parabola: list[str], tmp_path: Path, more: list[str]
) -> None:
    words = 'trainer.argv=["{python}","{widht}"]'
    flags = ["-m"] if "," in more[0] else []
    said = one_line(scalelab("train", *flags, *parabola, words, *more))
    assert "trainer.argv[1]: no value is named {widht}: did you mean {width}" in said
    assert not (tmp_path / "runs").exists()


def test_a_name_that_one_run_alone_does_not_have_is_refused(parabola: list[str]) -> None:
    words = 'trainer.argv=["{python}","{lr.readout}"]'
    said = one_line(scalelab("train", "-m", *parabola, words, "model.tied_head=false,true"))
    assert "no value is named {lr.readout}" in said


def test_one_run_goes_from_the_command_line_to_its_folder(parabola: list[str], tmp_path: Path) -> None:
    result = scalelab("train", *parabola, "lr=0.015625")
    assert result.exit_code == 0, result.output
    (folder,) = run_folders(tmp_path / "runs")
    assert folder.read().loss_nats == pytest.approx(2.802)
    assert {"command.log", "groups.json", "metrics.jsonl", "trial.json", "spec.json"} <= {
        file.name for file in folder.path.iterdir()
    }
    assert "1 finished, 0 to do" in squeezed(scalelab("train", *parabola, "lr=0.015625").output)


def test_a_run_that_fails_is_said_to_have_failed(tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    words = f'["{{python}}","{script}",exit7,"{{folder}}","{{checkpoint}}","{{lr}}"]'
    given = [*SMALL, "trainer=command", f"trainer.argv={words}", f"out={tmp_path / 'runs'}"]
    result = scalelab("train", *given)
    assert result.exit_code == 1 and "1 FAILED" in result.output
    (folder,) = run_folders(tmp_path / "runs")
    assert "exit status 7" in str(folder.read().reason)


def test_a_sweep_in_workers_is_fitted_and_projected(parabola: list[str], tmp_path: Path) -> None:
    result = scalelab(
        "train", "-m", *parabola, "study=s", "hydra/launcher=fused", "hydra.launcher.workers=2", "width=32,64,128",
        "lr=0.00390625,0.0078125,0.015625,0.03125,0.0625,0.5", "seed=0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    runs = tmp_path / "runs" / "s"
    trials = [folder.read() for folder in run_folders(runs)]
    assert [trial.outcome for trial in trials].count(Outcome.DIVERGED) == 3 and len(trials) == 18
    assert scalelab("status", str(runs)).exit_code == 0
    fitted = scalelab("fit", str(runs), "-o", str(tmp_path / "laws"), "--no-plots", "--draws", "100")
    assert fitted.exit_code == 0, fitted.output
    recipe = tmp_path / "recipe.yaml"
    wanted = scalelab("recommend", "--laws", str(tmp_path / "laws" / "laws.json"), "-t", "width=256", "-o", str(recipe))
    assert wanted.exit_code == 0, wanted.output
    # What a recipe says is not run; the command line says it again.
    assert "what a file says is not run" in one_line(scalelab("train", "--recipe", str(recipe), "--dry-run"))
    again = scalelab("train", "--dry-run", "--recipe", str(recipe), *(each for each in parabola if "trainer" in each))
    assert again.exit_code == 0, again.output
    assert "parabola.py 0.015" in squeezed(again.output)


def test_a_search_runs_commands(parabola: list[str], tmp_path: Path) -> None:
    result = scalelab(
        "train", "-m", *parabola, "study=s", "hydra/sweeper=optuna", "hydra/sweeper/sampler=carbs",
        "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2", "lr=tag(log, interval(0.004, 0.1))", "width=32,64",
        "hydra/launcher=fused", "hydra.launcher.workers=2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    trials = [folder.read() for folder in run_folders(tmp_path / "runs" / "s")]
    assert len(trials) == 6 and all(trial.outcome is Outcome.OK for trial in trials)


def test_runs_by_different_commands_are_not_one_law(tmp_path: Path) -> None:
    mine, other = commanded(tmp_path), commanded(tmp_path, argv=[*keys(tmp_path)["argv"], "--other"])
    elsewhere = commanded(tmp_path, cwd="/")
    sweep(tmp_path / "a", valley(), widths=(32, 64), seeds=(0,), data=mine.data, command=mine.command)
    sweep(tmp_path / "b", valley(), widths=(128,), seeds=(0,), data=mine.data, command=elsewhere.command)
    assert len(read([tmp_path / "a", tmp_path / "b"]).table) == 21
    sweep(tmp_path / "c", valley(), widths=(32,), seeds=(0,), data=mine.data, command=other.command)
    with pytest.raises(ValueError, match=r"runs differ in command.argv"):
        read([tmp_path / "a", tmp_path / "c"])


def test_a_command_has_its_worker_for_itself(tmp_path: Path) -> None:
    specs = dict(enumerate([commanded(tmp_path, argv=["x", str(number)]) for number in range(4)]))
    assert members(specs[0]) == members(specs[0], free_bytes=1 << 40) == 1
    for given in ({}, {"members": 8}, {"on_gpu": True}):
        made = tasks(specs, workers=2, **given)
        assert sorted(task.jobs for task in made) == [(0,), (1,), (2,), (3,)] and {task.members for task in made} == {1}


def test_commands_share_no_beginnings(tmp_path: Path) -> None:
    short, long = (
        replace(spec, horizon=replace(spec.horizon, warmup_fraction=0.0))
        for spec in (make_spec(schedule="constant"), make_spec(schedule="constant", tokens=1280))
    )
    assert branches({0: short, 1: long})
    command = commanded(tmp_path)
    given = {"command": command.command, "data": command.data}
    assert not branches({0: replace(short, **given), 1: replace(long, **given)})


@pytest.mark.slow
def test_the_example_transfers(tmp_path: Path) -> None:
    """The plain trainer with muP's values: its best learning rate stays where it is as the network gets wider."""
    result = scalelab("train", "-m", "+sweep=own_trainer/plain", f"out={tmp_path}")
    assert result.exit_code == 0, result.output
    fitted = scalelab("fit", str(tmp_path / "own_trainer"), "-o", str(tmp_path / "laws"), "--no-plots")
    assert fitted.exit_code == 0, fitted.output
    (group,) = json.loads((tmp_path / "laws" / "laws.json").read_text())["groups"]
    optima = [optimum["log2_lr"] for optimum in group["optima"]]
    assert len(optima) == 3 and max(optima) - min(optima) < 0.5
