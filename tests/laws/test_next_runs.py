"""The next runs: what they promise against what they give, by simulation, and what comes first."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws import LAWS, Fit, Joint
from scalelab.laws.checked import checked
from scalelab.laws.design import Proposed, next_runs
from scalelab.laws.design.of_joint import linear, student_covariance
from scalelab.laws.design.search import Option, Question, best, designs
from scalelab.laws.design.space import Space, run_flops
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.joint.valley import valley
from scalelab.laws.observations import observations
from scalelab.laws.optima.cells import groups
from scalelab.laws.optima.optimum import optima
from scalelab.laws.solve.fit import fit_observations
from tests.laws.sweeps import sweep, true_log2_lr

TARGET = {"width": 4096.0}
BUDGET = 1e18
LIKE = {"offset_nats": 0.0, "scatter": 0.15}


def joint_of(table: pd.DataFrame) -> Joint:
    return fit_joint(checked(table), draws=1000, rng=np.random.default_rng(0), profiles=False)


def run_as_proposed(batch: Proposed, rng: np.random.Generator) -> pd.DataFrame:
    width = int(batch.scale["width"])
    log2_lrs = tuple(float(x) for x in np.log2(batch.lrs))
    return sweep(rng, widths=(width,), centre=true_log2_lr(width), log2_lrs=log2_lrs, seeds=len(batch.seeds), **LIKE)


def sd_at_target(joint: Joint) -> float:
    return next_runs(TARGET, joint=joint).now_sd


@pytest.fixture(scope="module")
def joint() -> Joint:
    return joint_of(sweep(np.random.default_rng(3), seeds=2, **LIKE))


# --- what is promised is what a refit gives ---------------------------------------------------------------------------


def test_a_refit_is_as_certain_as_was_promised_and_more_than_after_other_runs_of_the_same_cost():
    promised, given, repeated, drawn = [], [], [], []
    for seed in range(8):
        rng = np.random.default_rng([seed, 5])
        table = sweep(rng, seeds=2, **LIKE)
        found = next_runs(TARGET, joint=joint_of(table), budget_flops=BUDGET)
        promised.append(found.then_sd)
        given.append(sd_at_target(joint_of(pd.concat([table, *(run_as_proposed(b, rng) for b in found.batches)]))))

        largest = table[(table["width"] == 1024) & (table["seed"] == 0)]
        each = run_flops(largest.iloc[0]) * len(largest)
        again = [
            largest.assign(seed=k, loss_nats=largest["loss_nats"] + 0.004 * rng.standard_normal(len(largest)))
            for k in range(2, 3 + int(found.cost_flops / each))
        ]
        repeated.append(sd_at_target(joint_of(pd.concat([table, *again]).assign(run=lambda t: range(len(t))))))

        left, other = found.cost_flops, []
        for width in 128 * rng.permutation([3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]):
            batch = sweep(
                rng, widths=(width,), centre=true_log2_lr(width), log2_lrs=tuple(range(-10, -5)), seeds=1, **LIKE
            )
            if (cost := len(batch) * run_flops(batch.iloc[0])) <= left:
                other.append(batch)
                left -= cost
        drawn.append(sd_at_target(joint_of(pd.concat([table, *other]))))
    assert np.mean(promised) == pytest.approx(np.mean(given), rel=0.25)
    assert np.mean(given) < 0.8 * np.mean(repeated)
    assert np.mean(given) < np.mean(drawn)


def power_loss(params, tokens):
    return LAWS["chinchilla"].value({k: p.typical for k, p in LAWS["chinchilla"].parameters.items()},
                                    {"params": params, "tokens": tokens})  # fmt: skip


def loss_runs(rng: np.random.Generator, params, tokens) -> pd.DataFrame:
    noise = np.exp(0.005 * rng.standard_normal(len(params)))
    return pd.DataFrame(
        {"params_non_embedding": params, "tokens": tokens, "loss_nats": power_loss(params, tokens) * noise}
    )


def loss_fit(table: pd.DataFrame) -> Fit:
    law = LAWS["chinchilla"]
    return fit_observations(law, observations(table, law), rng=np.random.default_rng(1))


LARGE = {"params_non_embedding": 7e10, "tokens": 1.4e12}


def ladder_of_runs(rng: np.random.Generator) -> pd.DataFrame:
    params = np.repeat(np.geomspace(3e7, 2e9, 7), 5)
    return loss_runs(rng, params, params * np.tile(np.geomspace(5, 80, 5), 7))


def test_a_loss_law_refitted_is_as_certain_as_was_promised():
    now, promised, given = [], [], []
    for seed in range(6):
        rng = np.random.default_rng([seed, 6])
        table = ladder_of_runs(rng)
        found = next_runs(LARGE, loss=loss_fit(table), budget_flops=3e22)
        at = {name: np.array([batch.scale[name] for batch in found.batches]) for name in LARGE}
        extended = pd.concat([table, loss_runs(rng, at["params_non_embedding"], at["tokens"])])
        now.append(found.now_sd)
        promised.append(found.then_sd)
        given.append(next_runs(LARGE, loss=loss_fit(extended)).now_sd)
    assert np.mean(promised) == pytest.approx(np.mean(given), rel=0.25)
    assert np.mean(given) < 0.9 * np.mean(now)


def batch_runs(rng: np.random.Generator, cells) -> pd.DataFrame:
    """Cells (params, tokens, lrs, batches) with valleys in both, and optima that scatter by 10 %."""
    rows = []
    for place, (params, tokens, lrs, batches) in enumerate(cells):
        own_lr, own_batch = 0.1 * rng.standard_normal(2)
        best_batch = np.log(5e5) + 0.5 * np.log(tokens / 1e10) + own_batch
        for lr, batch in itertools.product(lrs, batches):
            beside = np.log(batch) - best_batch
            u = np.log(lr / 2e-3) + 0.5 * np.log(params / 3e8) - 0.35 * np.log(batch / 5e5) - own_lr + 0.06 * beside**2
            rise = 0.008 * valley(np.array(u), 0.6)[0] + 0.006 * valley(np.array(beside), 0.2)[0]
            loss = (1.8 + 400 / params**0.34 + 1000 / tokens**0.33) * np.exp(rise + 0.002 * rng.standard_normal())
            rows.append(
                {"run": f"{place}-{lr:g}-{batch:g}-{rng.integers(2**31)}", "params_non_embedding": params,
                 "tokens": tokens, "batch_tokens": batch, "lr": lr, "seed": 0, "loss_nats": loss}
            )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("of", ["lr", "batch_tokens"])
def test_batches_are_designed_beside_learning_rates(of):
    target = {"params_non_embedding": 7e9, "tokens": 1.4e11}
    promised, given = [], []
    for seed in range(3):
        rng = np.random.default_rng([seed, 9])
        grid = (2.0 ** np.arange(-11, -5), 2.0 ** np.arange(17, 22))
        table = batch_runs(rng, [(n, d, *grid) for n in (1e8, 3e8, 1e9) for d in (3e9, 1e10, 3e10)])
        found = next_runs(target, joint=joint_of(table), of=of, budget_flops=1e22)
        assert all(len(b.lrs) >= 3 and len(b.batch_tokens) >= 3 for b in found.batches[1:])
        cells = [(*(b.scale[name] for name in target), b.lrs, b.batch_tokens) for b in found.batches[1:]]
        again = joint_of(pd.concat([table, batch_runs(rng, cells)]))
        promised.append(found.then_sd / found.now_sd)
        given.append(next_runs(target, joint=again, of=of).now_sd / found.now_sd)
    assert np.mean(promised) == pytest.approx(np.mean(given), rel=0.25)
    assert np.mean(promised) < 0.95


def test_a_loss_law_beside_a_joint_fit_is_designed_in_sweeps_around_the_optimum(joint):
    law = LAWS["kaplan_size"]
    floors = pd.DataFrame([{**cell.scale, "loss_nats": math.exp(cell.log_loss)} for cell in joint.cells])
    loss = fit_observations(law, observations(floors, law), rng=np.random.default_rng(0))
    found = next_runs(TARGET, joint=joint, loss=loss, of="loss_nats", budget_flops=1e20)
    assert found.then_sd < found.now_sd
    assert all(len(batch.lrs) >= 3 and "width" in batch.scale for batch in found.batches)


def test_information_of_a_cell_is_that_of_the_solver(joint):
    """Eliminating a cell's effects, against the inverse of the whole matrix of parameters and effects."""
    model = linear(joint)
    rows = [{"lr": 2.0**k} for k in range(-10, -5)]
    said = model.information({"width": 2048.0}, rows, seeds=1)
    many = model.information({"width": 2048.0}, rows, seeds=10**6)
    whole = np.linalg.inv(np.linalg.inv(model.covariance_PP) + said)
    assert (np.diag(whole) < np.diag(model.covariance_PP)).all()
    # However often a cell is run, it says no more than where its own optimum is, a scatter from the law.
    centre = model.optimum("lr", {"width": 2048.0}, batch_tokens=None)
    told = 1 / (centre.gradient_P @ np.linalg.pinv(many, rcond=1e-12) @ centre.gradient_P)
    assert told <= centre.scatter**-2 * (1 + 1e-6)
    assert centre.scatter == pytest.approx(joint.scatter["lr"] * math.log(2))


def test_covariance_of_draws_with_heavy_tails():
    rng = np.random.default_rng(0)
    root = np.array([[1.0, 0.0], [0.8, 0.3]])
    draws = np.sqrt(4 / rng.chisquare(4, 4000))[:, None] * (rng.standard_normal((4000, 2)) @ root.T)
    assert student_covariance(draws, 4.0) == pytest.approx(root @ root.T, rel=0.1)


# --- the search -------------------------------------------------------------------------------------------------------


def test_more_budget_never_means_a_larger_sd(joint):
    found = [next_runs(TARGET, joint=joint, budget_flops=budget) for budget in np.geomspace(6e16, 4e19, 25)]
    assert all(b.then_sd <= a.then_sd + 1e-12 for a, b in itertools.pairwise(found))
    assert found[-1].then_sd < 0.8 * found[0].now_sd
    assert all(f.irreducible_sd < f.then_sd <= f.now_sd for f in found)


def test_costs_add_up_and_stay_within_the_budget(joint):
    found = next_runs(TARGET, joint=joint, budget_flops=BUDGET)
    assert found.cost_flops == pytest.approx(sum(batch.cost_flops for batch in found.batches))
    assert found.cost_flops <= BUDGET
    for batch in found.batches:
        rows = list(batch.rows())
        assert batch.cost_flops == pytest.approx(sum(6 * row["params_non_embedding"] * row["tokens"] for row in rows))
        assert len({tuple(row.items()) for row in rows}) == len(rows) == batch.n_runs
        assert batch.scale["params_non_embedding"] == pytest.approx(48 * batch.scale["width"] ** 2)
        assert batch.scale["width"] % 128 == 0 and batch.scale["width"] <= 2048
        assert min(batch.lrs) < 2 ** true_log2_lr(batch.scale["width"]) < max(batch.lrs)
    assert [batch.sd_after for batch in found.batches] == sorted((b.sd_after for b in found.batches), reverse=True)
    assert found.batches[-1].sd_after == found.then_sd


def test_greedy_paths_are_near_the_best_of_all_subsets():
    rng = np.random.default_rng(0)
    for _ in range(10):
        root = rng.standard_normal((8, 3))
        options = [
            Option(site=k, richness=(0,), cost_flops=float(c), information_PP=np.outer(v, v) * c)
            for k, (v, c) in enumerate(zip(root, rng.uniform(0.2, 3, 8), strict=True))
        ]
        question = Question(precision_PP=np.eye(3), contrast_P=rng.standard_normal(3), irreducible=0.1)
        found = best(designs(question, options), 4.0)
        subsets = itertools.chain.from_iterable(itertools.combinations(options, k) for k in range(1, 9))
        least = min(question.sd(chosen) for chosen in subsets if sum(o.cost_flops for o in chosen) <= 4.0)
        assert found is not None and found.sd <= 1.15 * least
        assert found.sd == pytest.approx(question.sd(found.options))


def test_a_scale_is_chosen_once_and_may_grow():
    more = [
        Option(site=0, richness=(0, seeds), cost_flops=seeds, information_PP=np.eye(1) * seeds / (1 + 0.1 * seeds))
        for seeds in (1.0, 2.0, 3.0)
    ]
    found = designs(Question(precision_PP=np.eye(1), contrast_P=np.ones(1), irreducible=0.0), more)
    assert all(len(design.options) == 1 and design.cost_flops == design.options[0].cost_flops for design in found)
    assert best(found, 10.0).cost_flops == 3


def test_candidates_are_below_the_target_not_swept_and_fed_like_the_others():
    cells = tuple({"params": n, "tokens": 20 * n} for n in (1e8, 3e8, 1e9))
    found = Space(names=("params", "tokens"), cells=cells).candidates(
        {"params": 1e10, "tokens": 2e11}, batch_tokens=None
    )
    assert found == sorted(found, key=run_flops) and len(found) > 10
    assert all(5 <= scale["tokens"] / scale["params"] <= 80 for scale in found)
    assert max(scale["params"] for scale in found) <= 4e9
    assert not any(scale in cells for scale in found)


# --- repairs come first -----------------------------------------------------------------------------------------------


def test_cells_at_the_edge_of_their_grid_are_extended_first():
    wide = sweep(np.random.default_rng(0), seeds=2, log2_lrs=tuple(range(-12, -4)), centre=-7.2, **LIKE)
    table = wide[(wide["width"] > 128) | (wide["lr"] <= 2.0**-8)]  # the smallest's optimum lies above its grid
    (group,) = groups(table, scales=["width", "depth", "params_non_embedding", "tokens"])
    edges, _, _ = optima(group.cells, draws=100, rng=np.random.default_rng(0))
    assert edges[0].status == "AT_OR_ABOVE"
    found = next_runs(TARGET, joint=joint_of(table), optima=edges)
    assert found.batches[0].lrs == (2.0**-7, 2.0**-6)
    assert found.batches[0].why.startswith("extend the grid") and found.batches[0].sd_after == found.now_sd
    assert any(batch.scale["width"] > 1024 for batch in found.batches)


def test_noise_that_nobody_measured_is_measured_first_and_cheaply():
    found = next_runs(TARGET, joint=joint_of(sweep(np.random.default_rng(0), seeds=1, **LIKE)))
    first = found.batches[0]
    assert "no seed was replicated" in first.why and first.scale["width"] == 128
    assert first.seeds == (1, 2, 3) and len(first.lrs) == 1
    only = next_runs(TARGET, joint=joint_of(sweep(np.random.default_rng(0), seeds=1, **LIKE)),
                     budget_flops=first.cost_flops)  # fmt: skip
    assert only.batches == (first,) and only.then_sd == only.now_sd and "mend the sweep first" in only.status


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ({"with": 4096.0}, {}, "width of the target not given"),
        ({"width": 4096.0, "experts": 8.0}, {}, "unknown scale of the target 'experts'"),
        ({"width": -1.0}, {}, "accepted is a finite number > 0"),
        ({"width": 4096.0}, {"of": "tau"}, "unknown quantity to pin down 'tau': accepted are lr"),
        ({"width": 4096.0}, {"of": "loss_nats"}, "unknown quantity"),
        ({"width": 4096.0}, {"budget_flops": 1e9}, "the cheapest useful runs cost"),
        ({"width": 4096.0}, {"joint": None}, "neither a joint fit nor a law of the loss"),
    ],
)
def test_refusals_are_one_line(joint, target, options, said):
    with pytest.raises(Refused, match=said) as refused:
        next_runs(target, **{"joint": joint, **options})
    assert "\n" not in str(refused.value)


def test_a_loss_law_alone_refuses_what_is_no_scale():
    fitted = loss_fit(ladder_of_runs(np.random.default_rng(0)))
    with pytest.raises(Refused, match="unknown scale of the target 'foo'"):
        next_runs({**LARGE, "foo": 3.0}, loss=fitted)
    with pytest.raises(Refused, match="tokens of the target not given"):
        next_runs({"params_non_embedding": 7e10}, loss=fitted)


def test_the_cost_of_a_run_has_to_be_known():
    with pytest.raises(Refused, match="add the missing column"):
        run_flops({"width": 64.0, "tokens": 1e6})
    assert run_flops({"width": 64.0, "depth": 2.0, "tokens": 1e6}) == 6 * 12 * 2 * 64**2 * 1e6
