"""From a table to laws.json and back: what is refused, counted, kept."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws import read, study, tables, write
from tests.laws.sweeps import sweep


def broken(rng, **changes):
    table = sweep(rng)
    for name, value in changes.items():
        table[name] = table[name].astype(object)
        table.loc[5, name] = value
    return table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": -0.1}, r"lr at w128--9-2 \(-0.1\)"),
        ({"lr": np.nan}, "lr at .* finite number > 0"),
        ({"lr": "fast"}, "accepted is a number"),
        ({"loss_nats": -1.0}, "cross entropy"),
        ({"loss_nats": np.nan}, "with outcome OK"),
        ({"loss_nats": np.inf}, "with outcome OK"),
        ({"outcome": "ok"}, "unknown outcome 'ok': accepted are DIVERGED, FAILED, OK"),
        ({"width": 0}, "width at .* finite number > 0"),
        ({"weight_decay": -1.0}, "weight_decay at .* ≥ 0"),
        ({"optimizer": None}, "column 'optimizer' is empty"),
        ({"seed": 0}, "runs w128--9-0, w128--9-2 are the same .* differ in result"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(rng, changes, message):
    with pytest.raises(Refused, match=message) as refusal:
        study(broken(rng, **changes))
    assert "\n" not in str(refusal.value)


def test_bad_tables_and_options_are_refused(rng):
    table = sweep(rng)
    for wrong, message in (
        (table.iloc[:0], "no rows"),
        (table.drop(columns="lr"), r"same in every column .*state what differs \(lr"),
        (table.drop(columns="loss_nats"), "no column 'loss_nats'"),
        (table[["lr", "loss_nats"]], "no scale column"),
        (table.rename(columns={"batch_tokens": "batch_token"}), "did you mean 'batch_tokens'"),
        (table.assign(outcome="FAILED"), "every run FAILED"),
    ):
        with pytest.raises(Refused, match=message):
            study(wrong)
    for options, message in (
        ({"draws": 10}, "accepted are 100 or more"),
        ({"theory": {"widht": 0}}, "did you mean 'width'"),
        ({"scales": ["heads"]}, "unknown scale"),
        ({"template": {"x": {1}}}, "what JSON can hold"),
    ):
        with pytest.raises(Refused, match=message):
            study(table, **options)


def test_a_csv_needs_three_columns(rng):
    table = sweep(rng, diverged_from=-4)
    laws = study(table[["width", "lr", "loss_nats"]])
    group = laws.groups[0]
    assert group.key == {"parametrization": "unstated", "optimizer": "unstated", "data": "unstated"}
    assert group.n_diverged == 12
    assert group.noise.source == "seed replicates"
    assert group.lr_fits["power"].estimates["width"].contains(-0.4)
    assert "power_params" in group.not_fitted


def test_lrs_that_differ_by_rounding_are_one(rng):
    table = sweep(rng)
    jittered = table.assign(lr=table["lr"] * (1 + 1e-9 * table["seed"]))
    assert study(jittered).groups == study(table).groups


def test_failed_runs_and_repeated_rows_are_dropped_and_counted(rng):
    table = sweep(rng)
    failed = table.iloc[:2].assign(outcome="FAILED", loss_nats=np.nan)
    laws = study(pd.concat([table, failed, table.iloc[10:13]]))
    group = laws.groups[0]
    assert (group.n_failed, group.n_repeated, group.n_runs) == (2, 3, len(table))
    assert group.optima == study(table).groups[0].optima


def test_groups_are_not_pooled(rng):
    laws = study(pd.concat([sweep(rng), sweep(rng, weight_decay=0.0, exponent=0.0)]))
    assert [group.key["weight_decay"] for group in laws.groups] == [0.0, 0.1]
    flat, steep = (group.lr_fits["power"].estimates["width"].value for group in laws.groups)
    assert flat == pytest.approx(0, abs=0.06)
    assert steep == pytest.approx(-0.4, abs=0.06)


def test_batch_can_be_a_scale(rng):
    parts = [sweep(rng, centre=-7.2 + 0.5 * k, batch_tokens=65536 * 2**k) for k in range(3)]
    laws = study(pd.concat(parts), scales=("width", "depth", "params_non_embedding", "tokens", "batch_tokens"))
    assert len(laws.groups) == 1
    assert laws.groups[0].lr_fits["power"].estimates["batch_tokens"].value == pytest.approx(0.5, abs=0.06)


def test_a_group_without_a_law_keeps_its_optima_and_says_why(rng):
    laws = study(pd.concat([sweep(rng), sweep(rng, optimizer="sgd", exponent=0, log2_lrs=(-12, -11, -10))]))
    censored = laws.groups[1]
    assert censored.lr_fits == {}
    assert "at or above" in censored.not_fitted["power"]
    assert len(censored.optima) == 4


def test_same_seed_same_laws(rng):
    table = sweep(rng)
    assert study(table, seed=1) == study(table, seed=1)
    assert study(table, seed=1) != study(table, seed=2)


def test_round_trip(rng, tmp_path):
    table = pd.concat([sweep(rng), sweep(rng, optimizer="sgd", exponent=0, log2_lrs=(-12, -11, -10))])
    laws = study(table, theory={"width": 0}, template={"shape": [1, {"depth": 4}]}, sources=["sweeps/a"])
    write(laws, tmp_path / "laws.json")
    again = read(tmp_path / "laws.json")
    assert again == laws
    before, after = (x.groups[0].lr_fits["power"].predict(width=4096) for x in (laws, again))
    assert before == after
    assert [path.name for path in tmp_path.iterdir()] == ["laws.json"]


def test_files_that_are_not_ours_are_refused(rng, tmp_path):
    path = tmp_path / "laws.json"
    with pytest.raises(Refused, match="cannot be read"):
        read(path)
    with pytest.raises(Refused, match="does not exist"):
        write(study(sweep(rng), draws=100), tmp_path / "nowhere" / "laws.json")
    write(study(sweep(rng), draws=100), path)
    text = path.read_text()
    good = json.loads(text)
    damaged = json.loads(text)
    del damaged["groups"][0]["optima"][0]["status"]
    renamed = json.loads(text)
    renamed["groups"][0]["lr_fits"]["power"]["law"] = "powr"
    for content, message in (
        (text[:-200], "not JSON"),
        ("[1, 2]", "not a file of fitted laws"),
        ('{"format": "other"}', "not a file of fitted laws"),
        (json.dumps({**good, "version": 99}), "version 99, accepted is 2"),
        (json.dumps({**good, "extra": 1}), "damaged"),
        (json.dumps({**good, "groups": 3}), "damaged"),
        (json.dumps(damaged), "damaged"),
        (json.dumps(renamed), "unknown law 'powr'.*did you mean 'power'"),
    ):
        path.write_text(content)
        with pytest.raises(Refused, match=message) as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


def test_an_interrupted_write_leaves_the_old_file(rng, tmp_path, monkeypatch):
    path = tmp_path / "laws.json"
    laws = study(sweep(rng), draws=100)
    write(laws, path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write(study(sweep(rng), draws=100), path)
    assert read(path) == laws
    assert len(list(tmp_path.iterdir())) == 1


def test_tables_have_a_row_a_cell_and_a_row_an_estimate(rng):
    found = tables(study(sweep(rng), theory={"width": 0}))
    assert len(found["optima"]) == 4
    assert {"power", "power_params", "constant", "kaplan_size"} < set(found["exponents"]["law"])
    width = found["exponents"].query("law == 'power' and parameter == 'width'").iloc[0]
    assert width["theory"] == 0
    assert width["z"] == pytest.approx(width["value"] / width["sd"])
    assert not width["theory_inside"]


def test_a_typical_study_takes_seconds_with_all_its_tests(rng):
    table = pd.concat([sweep(rng), sweep(rng, optimizer="sgd")])
    started = time.process_time()
    study(table)
    assert time.process_time() - started < 8
