"""The next runs as files: studies that plan exactly what was proposed, and a table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws import LAWS
from scalelab.laws.checked import checked
from scalelab.laws.design import NextRuns, as_csv, as_studies, next_runs
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.observations import observations
from scalelab.laws.solve.fit import fit_observations
from scalelab.overrides import overrides_of
from scalelab.plan import plan
from scalelab.target import target_spec
from tests.conftest import make_spec
from tests.laws.sweeps import sweep


@pytest.fixture
def proxies() -> NextRuns:
    table = sweep(np.random.default_rng(1), widths=(32, 64, 128), seeds=1, tokens=51200, batch_tokens=512)
    return next_runs(
        {"width": 512.0},
        joint=fit_joint(checked(table), rng=np.random.default_rng(0), profiles=False),
        budget_flops=1e13,
    )


def test_studies_plan_exactly_the_proposed_runs(proxies, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    proxy = make_spec("mup", width=128, depth=4, hparams={"weight_decay": 0.02})
    studies = as_studies(
        proxies, name="more", stated=lambda scale: overrides_of(target_spec(proxy, {"width": int(scale["width"])}))
    )
    assert len(studies) == len(proxies.batches) >= 2
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    for (name, text), batch in zip(studies.items(), proxies.batches, strict=True):
        (tmp_path / "own" / "sweep" / f"{name}.yaml").write_text(text)
        runs = plan([f"+sweep={name}"], multirun=True, directories=[str(tmp_path / "own")]).runs
        width = int(batch.scale["width"])
        family = target_spec(proxy, {"width": width})
        wanted = {(lr, seed) for lr in batch.lrs for seed in batch.seeds}
        assert {(run.spec.hparams.lr, run.spec.seed) for run in runs} == wanted and len(runs) == len(wanted)
        for run in runs:
            assert (run.spec.shape, run.spec.base) == (family.shape, family.base)
            assert run.spec.hparams.weight_decay == 0.02
            assert (run.spec.horizon.tokens, run.spec.horizon.batch_tokens) == (51200, 512)
            assert run.folder.path == Path("runs/more") / run.spec.fingerprint
        assert f"Budget: {len(runs)} runs" in text and text.startswith("# @package _global_\n")
        assert max(map(len, text.splitlines())) <= 160


def test_studies_without_more_said_rest_on_the_configuration(proxies, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    (tmp_path / "own" / "sweep" / "next_2.yaml").write_text(as_studies(proxies)["next_2"])
    runs = plan(["+sweep=next_2"], multirun=True, directories=[str(tmp_path / "own")]).runs
    assert len(runs) == proxies.batches[1].n_runs
    assert {run.spec.shape.depth for run in runs} == {4}


def test_a_count_of_parameters_makes_a_table_and_no_study():
    law, rng = LAWS["chinchilla"], np.random.default_rng(0)
    runs = pd.DataFrame({"params_non_embedding": rng.uniform(1e8, 1e9, 20), "tokens": rng.uniform(1e9, 4e10, 20)})
    said = {name: p.typical for name, p in law.parameters.items()}
    inputs = {"params": runs["params_non_embedding"], "tokens": runs["tokens"]}
    runs["loss_nats"] = law.value(said, inputs) * np.exp(0.005 * rng.standard_normal(20))
    fit = fit_observations(law, observations(runs, law), rng=rng)
    found = next_runs({"params_non_embedding": 7e9, "tokens": 1.4e11}, loss=fit, budget_flops=1e22)
    with pytest.raises(Refused, match="take the runs as CSV"):
        as_studies(found)
    (head, *rows) = as_csv(found).splitlines()
    assert head == "proposal,params_non_embedding,tokens,seed,cost_flops,why" and len(rows) == found.n_runs
    assert json.loads(rows[0].split(",")[1]) == found.batches[0].scale["params_non_embedding"]
