"""What a search looks like while it runs and after: counts, costs, the front, the figures; and that it is only read."""

import contextlib
import importlib.util
import json
import math
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from scalelab import search_views
from scalelab.errors import Refused
from scalelab.plots.searched import front, searched
from scalelab.readers import read
from scalelab.readers.optuna_study import JOURNAL, open_study
from scalelab.search_views import SearchView, view
from tests.helpers import one_line, scalelab, squeezed, tree

TRIALS = 30
SPACE = {
    "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "width": optuna.distributions.IntDistribution(32, 256, step=32),
    "optimizer.weight_decay": optuna.distributions.CategoricalDistribution([0.0, 0.1]),
}
FIXED = {"parametrization": "mup", "optimizer": "adamw", "data.name": "embedded", "shape.width": 32, "shape.depth": 2}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def journal(folder: Path) -> JournalStorage:
    folder.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


def search(folder: Path, *, trials: int = TRIALS) -> optuna.Study:
    """A search as the sweeper leaves it: trial 1 diverged, 2 failed, 3 was told from elsewhere, the last one runs."""
    study = optuna.create_study(
        study_name="of ours", storage=journal(folder), directions=["minimize"] * 2,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    study.set_user_attr("scalelab", {"objectives": {"0": "loss_nats", "1": "cost_flops"}, "fixed": FIXED})
    for number in range(trials):
        trial = study.ask(SPACE)
        study._storage.set_trial_system_attr(trial._trial_id, search_views.PHASE, "law" if number > 9 else "opening")
        width, lr = trial.params["width"], trial.params["lr"]
        cost, loss = 6 * 12 * width**2 * 64_000, 3.0 - 0.2 * math.log2(width / 32) + 0.1 * math.log10(lr / 0.01) ** 2
        told = {
            "outcome": "DIVERGED" if number == 1 else "FAILED" if number == 2 else "OK",
            "fingerprint": f"{number}a {number}b", "seeds": [0, 1], "cost_flops": cost, "seconds": 2.0,
            "params_non_embedding": 12 * width**2, "tokens": 64_000, "batch_tokens": 512, "sampler": "RandomSampler",
            **({} if number in (1, 2) else {"loss_nats": loss}),
            **({"warm_start": "elsewhere/3"} if number == 3 else {}),
        }  # fmt: skip
        for name, value in told.items():
            trial.set_user_attr(name, value)
        if number == 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [math.inf if number == 1 else loss, cost])
    study.ask(SPACE)
    return study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    at = tmp_path_factory.mktemp("runs") / "study"
    search(at)
    return at


@pytest.fixture(scope="module")
def found(folder: Path) -> SearchView:
    return view(open_study(folder))


# --- what is read -----------------------------------------------------------------------------------------------------


def test_trials_are_counted_by_what_became_of_them(found: SearchView) -> None:
    assert found.counts("outcome") == {"OK": 27, "DIVERGED": 1, "FAILED": 1, "RUNNING": 1}
    assert found.counts("sampler") == {"RandomSampler": 29}  # the one that runs does not say yet
    assert found.counts("phase") == {"opening": 9, "law": 20}
    assert len(found.tried) == 31 and sum(each.warm for each in found.tried) == 1


def test_what_was_spent_is_the_flops_of_every_run_once(found: SearchView) -> None:
    own = [each for each in found.tried if each.outcome in ("OK", "DIVERGED") and not each.warm]
    assert found.cost == "cost_flops"
    assert found.spent == pytest.approx(sum(2 * each.cost for each in own))  # two seeds


def test_a_run_of_two_trials_is_paid_for_once(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["minimize"] * 2)
    for _ in range(2):
        study.add_trial(optuna.create_trial(values=[3.0, 5.0], user_attrs={"fingerprint": "same", "cost_flops": 5.0}))
    assert view(study).spent == 5.0


def test_the_front_is_optunas_among_those_that_ended_well(folder: Path, found: SearchView) -> None:
    study = open_study(folder)
    best = {t.number for t in study.best_trials if math.isfinite(t.values[0])}
    assert {each.number for each in found.front} == best
    assert [each.cost for each in found.front] == sorted(each.cost for each in found.front)
    assert (np.diff([each.loss for each in found.front]) < 0).all()


def test_the_best_so_far_is_that_of_the_first_trials(found: SearchView) -> None:
    assert [step.trials for step in found.trend] == [10, 28]
    first = [each for each in found.ended[:10] if each.ok]
    best = found.trend[0].best
    assert best is not None and best.loss == min(each.loss for each in first)
    assert found.trend[-1].spent == found.spent


def test_importances_find_what_the_loss_depends_on(folder: Path, found: SearchView) -> None:
    study = open_study(folder)
    weights = search_views.importances(found, study)
    assert weights is not None and sum(weights.values()) == pytest.approx(1)
    assert weights["optimizer.weight_decay"] < min(weights["lr"], weights["width"])


def test_few_trials_have_no_importances(tmp_path: Path) -> None:
    study = search(tmp_path, trials=8)
    assert search_views.importances(view(study), study) is None


def test_a_study_of_one_objective_has_no_cost() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("lr", 0.1, 1), n_trials=3)
    found = view(study)
    assert found.objectives == ("loss",) and found.cost is None and found.front == () and math.isnan(found.spent)
    assert found.best is not None and found.best.loss == study.best_value


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({}, "has no trials yet"),
        ({"direction": "maximize"}, "maximises its first objective: accepted is one that minimises a loss"),
    ],
)
def test_studies_without_anything_to_see(study: dict[str, str], said: str) -> None:
    made = optuna.create_study(**study)
    if study:
        made.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(Refused, match=said):
        view(made)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_status_of_a_folder(folder: Path, found: SearchView) -> None:
    before = tree(folder)
    result = scalelab("search", "status", str(folder))
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert "Search of ours, minimising loss_nats, cost_flops: 30 trials, and 1 it began with" in text
    assert "outcomes: 27 OK, 1 DIVERGED, 1 FAILED, 1 RUNNING" in text and "phases: 9 opening, 20 law" in text
    assert found.best is not None and f"best: loss_nats {found.best.loss:.5g} with lr=" in text
    assert "importances for loss_nats (PED-ANOVA): " in text and "Pareto front" in text
    assert tree(folder) == before and result.stderr == ""


@pytest.mark.parametrize("name", ["plain", "database"])
def test_status_of_any_study(name: str, tmp_path: Path) -> None:
    """Two unnamed objectives, few trials, one of them infinite; in a journal and in a database."""
    where = tmp_path / ("a.db" if name == "database" else "a.journal")
    storage: Any = f"sqlite:///{where}" if name == "database" else JournalStorage(JournalFileBackend(str(where)))
    study = optuna.create_study(study_name="theirs", storage=storage, directions=["minimize"] * 2)
    for lr, values in ((0.1, [3.0, 2.0]), (0.02, [math.inf, 1.0]), (0.05, [2.5, 4.0])):
        study.add_trial(optuna.create_trial(params={"lr": lr}, distributions={"lr": SPACE["lr"]}, values=values))
    result = scalelab("search", "status", f"{where}#theirs")
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert "minimising loss, cost: 3 trials" in text and "spent: 7 cost" in text
    assert "importances: from 20 trials that ended well on; here are 2" in text


def test_the_figures(folder: Path, tmp_path: Path) -> None:
    before = tree(folder)
    result = scalelab("search", "plot", str(folder), "-o", str(tmp_path / "figures"))
    assert result.exit_code == 0, result.output
    names = {"front", "history", "slice", "parallel_coordinate", "importances"}
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"{n}.{end}" for n in names for end in ("png", "svg")
    }
    assert all(file.stat().st_size > 5000 for file in (tmp_path / "figures").iterdir())
    assert tree(folder) == before and result.stderr == ""


def test_the_front_on_paper(found: SearchView) -> None:
    (panel,) = front(found).axes
    assert panel.get_xscale() == "log" and panel.get_xlabel() == "training FLOPs C"
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["opening", "law", "front", "diverged"]


def test_drawing_leaves_pyplot_as_it_was(folder: Path, found: SearchView) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    before = dict(mpl.rcParams)
    assert len(list(searched(found, open_study(folder)))) == 5
    assert dict(mpl.rcParams) == before and pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent", "absent does not exist: give the folder of a search"),
        (".", ". holds no search.journal: give the folder of a search"),
        ("sqlite:///absent.db", "there is no file absent.db"),
        ("table.csv", "unknown kind of study '.csv': accepted are .db, .journal, .log, .sqlite3"),
        ("torn.journal", "torn.journal cannot be read as a journal: it is no Optuna journal"),
    ],
)
def test_what_is_no_study_is_one_line(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("table.csv", "torn.journal"):
        Path(name).write_text("lr,loss\n")
    before = tree(tmp_path)
    for command in ("status", "plot"):
        assert said in one_line(scalelab("search", command, source))
    assert tree(tmp_path) == before


# --- fit reads a search -----------------------------------------------------------------------------------------------


def test_a_search_of_ours_needs_no_columns(folder: Path) -> None:
    found = read([folder / JOURNAL])
    assert found.guessed == {}
    row = found.table.iloc[0]
    assert {"lr", "weight_decay", "width", "tokens", "params_non_embedding", "cost_flops", "batch_tokens"} <= set(
        found.table
    )
    assert (row["parametrization"], row["optimizer"], row["data"], row["depth"]) == ("mup", "adamw", "embedded", 2)
    assert found.table["outcome"].value_counts().to_dict() == {"OK": 28, "DIVERGED": 1, "FAILED": 1}
    assert row["params_non_embedding"] == 12 * row["width"] ** 2  # searched, and not the first of the space
    assert row["loss_nats"] == open_study(folder).trials[0].values[0]


def test_the_first_of_two_objectives_is_taken_for_the_loss(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="a", storage=journal(tmp_path), directions=["minimize"] * 2)
    study.optimize(lambda trial: (trial.suggest_float("lr", 0.1, 1), 7.0), n_trials=3)
    found = read([tmp_path / JOURNAL])
    assert found.guessed["loss_nats"] == "value, by its name"
    assert found.table["loss_nats"].tolist() == found.table["lr"].tolist()


# --- optuna-dashboard -------------------------------------------------------------------------------------------------


@pytest.fixture
def dashboard(folder: Path) -> Iterator[str]:
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed: pip install optuna-dashboard")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", str(folder / JOURNAL)]
    served = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}"
    served.terminate()
    served.wait()


def test_optuna_dashboard_shows_a_search(dashboard: str) -> None:
    for _ in range(60):
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{dashboard}/api/studies") as answer:
            studies = json.load(answer)["study_summaries"]
            break
        time.sleep(0.5)
    assert [study["study_name"] for study in studies] == ["of ours"]
    assert studies[0]["directions"] == ["minimize"] * 2
