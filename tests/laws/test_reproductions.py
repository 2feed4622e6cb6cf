"""Published fits, found again from the published runs through `fit` and `isoflop`.

The runs are not part of the project: tests that need files skip where they are absent. Losses that a source prints in
its code stand here.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelab.laws import LEAST_ABSOLUTE, LEAST_SQUARES, PUBLISHED, Fit, Objective, fit
from scalelab.laws.isoflop import isoflop

HUBER = Objective(delta=1e-3)  # of log loss, summed: the convention of arXiv:2203.15556
LINEAR_LEAST_SQUARES = Objective(space="linear")  # scipy's curve_fit
DRAWS = 200  # intervals are looked at only where a test is about them


def values(found: Fit) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.estimates.items()}


def objective(found: Fit) -> float:
    assert found.search is not None
    return found.search.value


def width(found: Fit, name: str) -> float:
    estimate = found.estimates[name]
    return estimate.high - estimate.low


# Chinchilla's points as read off its figure: epoch-research/analyzing-chinchilla, Besiroglu et al. (arXiv:2404.10102).


def chinchilla_points(published: Path, *, dropped: int) -> pd.DataFrame:
    """The points without those of the highest loss."""
    read = pd.read_csv(published / "epoch_chinchilla" / "svg_extracted_data.csv")
    tokens = read["Training FLOP"] / (6 * read["Model Size"])
    runs = pd.DataFrame({"params": read["Model Size"], "tokens": tokens, "loss_nats": read["loss"]})
    return runs.sort_values("loss_nats").iloc[: len(runs) - dropped]


@pytest.mark.parametrize(
    ("minimised", "expected"),
    [
        # What the paper prints: its likelihood's free scale goes to 0, which makes Huber's loss absolute deviations.
        (LEAST_ABSOLUTE, {"A": 482.01, "B": 2085.44, "E": 1.81686, "alpha": 0.34781, "beta": 0.36585}),
        # What it states.
        (HUBER, {"A": 477.83, "B": 2143.4, "E": 1.81722, "alpha": 0.34731, "beta": 0.36717}),
    ],
)
def test_chinchilla_replication(minimised: Objective, expected: Mapping[str, float], published: Path):
    found = fit(chinchilla_points(published, dropped=5), "chinchilla", objective=minimised, draws=DRAWS)
    assert found.n == 240
    assert values(found) == pytest.approx(expected, rel=5e-5)
    if minimised == HUBER:
        assert objective(found) == pytest.approx(0.001018274018, rel=1e-7)


@pytest.mark.parametrize("minimised", [LEAST_ABSOLUTE, HUBER])
def test_chinchilla_replication_has_the_published_intervals(minimised: Objective, published: Path):
    """The paper's 95 % intervals, by refits of resampled points."""
    found = fit(chinchilla_points(published, dropped=5), "chinchilla", objective=minimised)
    for name, (low, high) in {"A": (285, 744), "B": (1042, 5810)}.items():
        assert np.log(found.estimates[name].bootstrap) == pytest.approx(np.log((low, high)), abs=0.15)
    for name, (low, high) in {"E": (1.769, 1.871), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}.items():
        assert found.estimates[name].bootstrap == pytest.approx((low, high), abs=0.1 * (high - low))


def test_five_points_move_an_exponent_of_chinchilla(published: Path):
    found = fit(chinchilla_points(published, dropped=0), "chinchilla", objective=HUBER, draws=DRAWS)
    assert found.n == 245
    assert found.estimates["beta"].value == pytest.approx(0.453, abs=5e-4)
    assert found.estimates["B"].value == pytest.approx(12846, rel=1e-3)


# Over-training: mlfoundations/scaling, Gadre et al. (arXiv:2403.08540). Five runs a data set, validation loss on C4.

GADRE_SIZES = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")
# Parameters, tokens and loss of the two runs that the paper predicts: exp_data/models/rpj-open_lm_{1b-32.0,7b-1.0}.json
GADRE_LARGE = {
    "1.4B, M = 640": (1439795200, 921468928000, 2.502054),
    "6.9B, M = 20": (6889410560, 137788211200, 2.424993),
}


def gadre(published: Path, data: str) -> Fit:
    read = pd.read_csv(published / "gadre" / "testbed_small.csv")
    kept = read["dataset_name"].eq(data) & read["model_name"].isin(GADRE_SIZES)
    longest = read["cc_mult"].eq(16) & read["model_name"].eq(GADRE_SIZES[0])
    used = read[kept & (read["cc_mult"].eq(1) | longest)]
    assert len(used) == 5
    table = pd.DataFrame(
        {"params_total": used["N"], "tokens": used["D"], "cost_flops": used["flops"], "loss_nats": used["loss_c4_val"]}
    )
    return fit(table, "gadre", objective=LINEAR_LEAST_SQUARES, draws=DRAWS)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("c4_original", {"E": 1.508, "a": 141.3, "b": 189.5, "eta": 0.1212}),
        ("rpj", {"E": 1.837, "a": 212.2, "b": 366.7, "eta": 0.1364}),
        ("rw_original", {"E": 1.734, "a": 157.1, "b": 246.2, "eta": 0.1272}),
    ],
)
def test_over_training(data: str, expected: Mapping[str, float], published: Path):
    found = gadre(published, data)
    assert values(found) == pytest.approx(expected, rel=5e-4)
    assert any("few" in warning for warning in found.warnings)  # five runs, four parameters


@pytest.mark.parametrize(("run", "percent"), [("1.4B, M = 640", 0.71), ("6.9B, M = 20", 0.73)])
def test_over_training_predicts_large_runs(run: str, percent: float, published: Path):
    params, tokens, measured = GADRE_LARGE[run]
    predicted = gadre(published, "rpj").predict(cost_flops=6 * params * tokens, tokens_per_param=tokens / params).value
    assert 100 * (predicted / measured - 1) == pytest.approx(percent, abs=0.005)


# Repeated data: huggingface/datablations, Muennighoff et al. (arXiv:2305.16264).


def test_repetition_is_not_identified(published: Path):
    """R_D = 15.4, R_N = 5.3 are published; many pairs fit better, and no R_D is too large. The objective at the
    published point is in test_forms."""
    read = pd.read_csv(published / "datablations" / "c4_repeat_runs_182.csv")
    runs = read.rename(columns={"loss": "loss_nats"}).drop(columns="epochs")
    found = fit(runs, "muennighoff_repeats", objective=HUBER)
    assert objective(found) < 0.015809 < 0.01582594
    repeats = found.estimates["R_D"]
    assert repeats.profile is not None and repeats.profile[1] == np.inf == repeats.high
    assert repeats.contains(15.387756) and found.estimates["R_N"].contains(5.309743)
    assert any("R_D is not bounded above" in warning for warning in found.warnings)


# Routed models: google-deepmind/scaling_laws_for_routing, Clark et al. (arXiv:2202.01169); dense: one expert.


@pytest.mark.parametrize(
    ("router", "expected", "rmse_log10"),
    [
        ("S-Base", {"a": -0.0830, "b": -0.1180, "c": 0.0099, "d": 1.1136, "E_start": 2.08, "E_max": 238.7}, 0.00323),
        ("RL-R", {"a": -0.0827, "b": -0.1234, "c": 0.0112, "d": 1.1070, "E_start": 1.72, "E_max": 470.1}, 0.00323),
        ("Hash", {"a": -0.0874, "b": -0.1384, "c": 0.0126, "d": 1.1595, "E_start": 4.27, "E_max": 427.3}, 0.00298),
    ],
)
def test_routed_models(router: str, expected: Mapping[str, float], rmse_log10: float, published: Path):
    read = pd.read_csv(published / "routing" / "final_losses_main.csv")
    used = read[read["router_type"].isin(["Dense", router])]
    table = pd.DataFrame(
        {
            "params": used["dense_parameter_count"],
            "experts": used["num_experts"],
            "loss_nats": used["loss_validation"],
        }
    )
    found = fit(table, "clark", objective=LEAST_SQUARES, draws=DRAWS)
    assert values(found) == pytest.approx(expected, rel=4e-3)
    residual_log10 = np.array(found.residuals) * np.log10(2)
    assert np.sqrt((residual_log10**2).mean()) == pytest.approx(rmse_log10, abs=1e-5)


# Gemstones: mcleish7/gemstone-scaling-laws parameters_delta-3/, McLeish et al. (arXiv:2502.06857). 20 to 22 runs of ten
# checkpoints; each law with embeddings counted and without.

GEMSTONES_VOCAB = 50304


def gemstones(published: Path, runs: str, *, embeddings: bool = True) -> pd.DataFrame:
    read = pd.read_json(published / "gemstones" / f"wandb_df_for_fitting_{runs}.jsonl", lines=True)
    params = read["params_active_precise"] - (0 if embeddings else GEMSTONES_VOCAB * read["width"])
    return pd.DataFrame(
        {"run": read["run_name"], "params": params, "tokens": read["tokens"], "loss_nats": read["final_loss"]}
    )


@pytest.mark.parametrize(
    ("runs", "embeddings", "value", "alpha", "beta", "log_A", "log_B", "log_E"),
    [
        ("hot", True, 0.0019816129, 0.2928686863, 0.712872206, 5.3613398367, 15.415994531, 0.7622636901),
        ("hot", False, 0.0017466699, 0.2807638315, 0.6796972223, 5.0482314178, 14.7063392872, 0.7636698366),
        ("lr_ablation_hot", True, 0.0019728624, 0.325466724, 0.6512643658, 5.8381509809, 14.3073167443, 0.7911246624),
        ("lr_ablation_hot", False, 0.0018048408, 0.298655803, 0.6459410771, 5.283397698, 14.2222754418, 0.7819253424),
        ("cool_end", True, 0.0019640865, 0.3002728205, 0.580241077, 5.4197160371, 12.5138998709, 0.7297863295),
        ("cool_end", False, 0.001713242, 0.2798552605, 0.6263421615, 4.977329376, 13.5843120444, 0.7328537246),
    ],
)
def test_checkpoints_of_many_shapes(
    runs: str, embeddings: bool, value: float, alpha: float, beta: float, log_A: float, log_B: float, log_E: float,
    published: Path,
):  # fmt: skip
    found = fit(gemstones(published, runs, embeddings=embeddings), "chinchilla", objective=HUBER, draws=DRAWS)
    assert objective(found) <= value * (1 + 1e-7)  # the source's starts stop just short of the minimum
    expected = {"alpha": alpha, "beta": beta, "A": np.exp(log_A), "B": np.exp(log_B), "E": np.exp(log_E)}
    at = values(found)
    for name in ("alpha", "beta", "E"):
        assert at[name] == pytest.approx(expected[name], rel=6e-4)
    for name in ("A", "B"):
        assert np.log(at[name]) == pytest.approx(np.log(expected[name]), rel=6e-4)


@pytest.mark.parametrize("runs", ["hot", "lr_ablation_hot", "cool_end"])
def test_checkpoints_of_a_run_are_not_independent(runs: str, published: Path):
    """What differs between runs is known no better for having looked at each ten times."""
    table = gemstones(published, runs)
    clustered = fit(table, "chinchilla", objective=HUBER)
    naive = fit(table.drop(columns="run"), "chinchilla", objective=HUBER)
    assert clustered.search is not None and naive.search is not None
    assert clustered.search.clusters == table["run"].nunique() and naive.search.clusters == len(table)
    for name in ("E", "A", "alpha"):
        assert width(clustered, name) > 1.5 * width(naive, name)


# IsoFLOPs: formll/resolving-scaling-law-discrepancies, Porian et al. (arXiv:2406.19146), RefinedWeb.

PORIAN = ["file", "dataset", "hparams", "warmup", "decay", "count", "val"]
# The source's noise rises from .002 nats, but it compares thresholds of the loss, 3 and 7, with the log of the loss.
PORIAN_NOISE_NATS = 0.002


@pytest.mark.parametrize(("noise_nats", "within"), [(PORIAN_NOISE_NATS, 0.002), (None, 0.01)])
def test_isoflops(noise_nats: float | None, within: float, published: Path):
    """The exponents of ten accountings, with the source's noise and with the noise as measured here."""
    points = pd.read_csv(published / "porian" / "isoflop_points_rw.csv")
    expected = pd.read_csv(published / "porian" / "published_fits_rw.csv").set_index(PORIAN)
    found = {}
    for key, rows in points.groupby(PORIAN):
        table = rows.rename(columns={"n": "params", "t": "tokens", "flops": "cost_flops", "loss": "loss_nats"})
        found[key] = isoflop(table[["params", "tokens", "cost_flops", "loss_nats"]], noise_nats=noise_nats)
    assert len(found) == 10
    for key, result in found.items():
        row = expected.loc[key]
        assert result.params_exponent.value == pytest.approx(row["a"], abs=within)
        assert result.params_exponent.contains(row["a"])
        # The source finds D* by a valley in D of its own; its budgets' edges can differ by a grid point.
        assert result.tokens_exponent.value == pytest.approx(row["t_exp"], abs=within + 0.003)


# Losses that stand in their sources' code.


def test_mu_scaling():
    """cofe-ai/Mu-scaling fit_scale_loss_prediction.py (arXiv:2304.06875): seven widths predict the next three."""
    millions = np.array([8.53, 21.56, 39.09, 61.12, 87.65, 118.68, 154.21, 194.24, 676.48, 1446.72])
    losses = np.array([3.9181, 3.6054, 3.4431, 3.3542, 3.2902, 3.2478, 3.224, 3.1797, 3.0854, 3.0425])
    table = pd.DataFrame({"params": 1e6 * millions, "loss_nats": losses})
    found = fit(table.iloc[:7], "mu_scaling", objective=LINEAR_LEAST_SQUARES, draws=DRAWS)
    at = values(found)
    assert at["E"] == pytest.approx(2.923, abs=5e-4)
    assert at["alpha"] == pytest.approx(0.423, abs=5e-4)
    assert at["A"] / 1e6 ** at["alpha"] == pytest.approx(2.469, abs=1e-3)
    predicted = np.array([found.predict(params=params).value for params in 1e6 * millions[7:]])
    assert 100 * (predicted / losses[7:] - 1) == pytest.approx([0.29, -0.18, -0.18], abs=0.006)


PARSCALE_PARAMS = (
    (535813376, 693753856, 1088376320, 1571472384, 2774773760, 4353203200),
    (538195842, 696738818, 1092762882, 1577522690, 2784937986, 4368529922),
    (540577412, 699722756, 1097148164, 1583571460, 2795100164, 4383854084),
    (545340552, 705690632, 1105918728, 1595669000, 2815424520, 4414502408),
)
PARSCALE_LOSSES = {
    "stack": (
        (1.1722, 1.1496, 1.1131, 1.0817, 1.0451, 1.0213),
        (1.1507, 1.1262, 1.0940, 1.0623, 1.0244, 1.0025),
        (1.1354, 1.1124, 1.0808, 1.0490, 1.0126, 0.9906),
        (1.1231, 1.0997, 1.0688, 1.0383, 1.0016, 0.9794),
    ),
    "pile": (
        (2.1113, 2.0671, 2.0027, 1.9539, 1.8876, 1.8451),
        (2.0772, 2.0363, 1.9730, 1.9266, 1.8610, 1.8137),
        (2.0544, 2.0128, 1.9509, 1.9040, 1.8394, 1.7938),
        (2.0364, 1.9933, 1.9318, 1.8856, 1.8218, 1.7772),
    ),
}


@pytest.mark.parametrize("data", ["stack", "pile"])
def test_parscale(data: str):
    """QwenLM/ParScale parametric_fit.py (arXiv:2505.10475): six sizes with 1, 2, 4 and 8 streams."""
    table = pd.DataFrame(
        {
            "params_non_embedding": np.ravel(PARSCALE_PARAMS),
            "streams": np.repeat([1.0, 2.0, 4.0, 8.0], 6),
            "loss_nats": np.ravel(PARSCALE_LOSSES[data]),
        }
    )
    found = fit(table, "parscale", objective=HUBER, draws=DRAWS)
    assert values(found) == pytest.approx(dict(PUBLISHED[f"parscale/{data}"].parameters), rel=1e-4)
