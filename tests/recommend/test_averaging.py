"""Theory and measurement weighted: the evidence is that of the linear model behind it, the average is a mean."""

import numpy as np
import pytest
from scipy import stats

from scalelab.recommend.averaging import Average, Posterior, average

NORMAL = 1e7  # degrees of freedom that make a Student-t a normal


def linear(y_N: np.ndarray, x_NP: np.ndarray, sd: float, priors: dict[str, tuple[float, float]]) -> Posterior:
    """The exact posterior of a linear model with known errors."""
    prior_PP = np.diag([s**-2.0 for _, s in priors.values()])
    mean_P = np.array([m for m, _ in priors.values()])
    scale_PP = np.linalg.inv(x_NP.T @ x_NP / sd**2 + prior_PP)
    return Posterior(
        names=tuple(priors), mean_P=scale_PP @ (x_NP.T @ y_N / sd**2 + prior_PP @ mean_P), scale_PP=scale_PP,
        dof=NORMAL, priors=priors,
    )  # fmt: skip


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, float, dict[str, tuple[float, float]]]:
    rng = np.random.default_rng(3)
    x_NP = np.stack([np.ones(12), rng.standard_normal(12), rng.standard_normal(12)], axis=-1)
    y_N = x_NP @ [0.5, 0.1, -0.3] + 0.4 * rng.standard_normal(12)
    return y_N, x_NP, 0.4, {"lr": (0.0, 3.0), "lr ~ width": (-0.5, 0.5), "lr ~ depth": (-0.25, 0.4)}


@pytest.mark.parametrize("held", [("lr ~ width",), ("lr ~ depth",), ("lr ~ width", "lr ~ depth")])
def test_the_evidence_is_the_ratio_of_marginal_likelihoods(held: tuple[str, ...], problem) -> None:  # type: ignore[no-untyped-def]
    y_N, x_NP, sd, priors = problem

    def marginal(free: list[int]) -> float:
        mean = x_NP[:, free] @ [list(priors.values())[k][0] for k in free]
        own = x_NP[:, free] @ np.diag([list(priors.values())[k][1] ** 2 for k in free]) @ x_NP[:, free].T
        return float(stats.multivariate_normal.logpdf(y_N, mean, own + sd**2 * np.eye(len(y_N))))

    free = [k for k, name in enumerate(priors) if name not in held]
    found = linear(y_N, x_NP, sd, priors).log_evidence(held)
    assert found == pytest.approx(marginal(free) - marginal([0, 1, 2]), abs=1e-4)


def test_what_is_held_leaves_the_fit_without_it(problem) -> None:  # type: ignore[no-untyped-def]
    y_N, x_NP, sd, priors = problem
    held = linear(y_N, x_NP, sd, priors).held(["lr ~ width"])
    without = linear(y_N, x_NP[:, [0, 2]], sd, {name: priors[name] for name in ("lr", "lr ~ depth")})
    assert held.mean_P[[0, 2]] == pytest.approx(without.mean_P)
    assert held.scale_PP[np.ix_([0, 2], [0, 2])] == pytest.approx(without.scale_PP, rel=1e-5)
    assert held.mean_P[1] == pytest.approx(0, abs=1e-12) and not held.draws(50, np.random.default_rng(0))[:, 1].any()


def test_the_average_has_the_variance_within_models_and_that_between_them() -> None:
    posterior = Posterior(
        names=("lr", "lr ~ width"), mean_P=np.array([0.0, -0.2]), scale_PP=np.array([[0.01, 0.006], [0.006, 0.01]]),
        dof=NORMAL, priors={"lr": (0.0, 3.0), "lr ~ width": (0.0, 0.5)},
    )  # fmt: skip
    found = average(posterior, ["lr ~ width"])
    assert [member.held for member in found.members] == [(), ("lr ~ width",)]
    weight = found.theory
    assert weight == pytest.approx(found.claims["lr ~ width"]) and 0.2 < weight < 0.8
    theta_DP, theory_D = found.draws(200_000, np.random.default_rng(0))
    assert theory_D.mean() == pytest.approx(weight, abs=1e-5)
    free, held = (member.posterior for member in found.members)
    gap = held.mean_P[0] - free.mean_P[0]
    within = (1 - weight) * free.scale_PP[0, 0] + weight * held.scale_PP[0, 0]
    assert theta_DP[:, 0].var() == pytest.approx(within + weight * (1 - weight) * gap**2, rel=0.02)


def alone(exponent: float, sd: float, *, dof: float = 10.0) -> Average:
    posterior = Posterior(
        names=("lr", "lr ~ width"), mean_P=np.array([0.0, exponent]), scale_PP=np.diag([0.01, sd**2]), dof=dof,
        priors={"lr": (0.0, 3.0), "lr ~ width": (-0.5, 0.5)},
    )  # fmt: skip
    return average(posterior, ["lr ~ width"])


def test_the_better_the_runs_the_surer_the_weight() -> None:
    agreeing = [alone(0.0, sd).theory for sd in (0.5, 0.1, 0.01)]
    assert agreeing == sorted(agreeing) and agreeing[0] < 0.7 and agreeing[-1] > 0.97
    against = [alone(-0.3, sd).theory for sd in (0.3, 0.1, 0.03)]
    assert against == sorted(against, reverse=True) and against[-1] < 0.01
    assert alone(-0.5, 0.5).theory == pytest.approx(0.5, abs=0.15)  # runs that say nothing leave the prior


def test_where_nothing_is_claimed_theory_has_no_weight() -> None:
    posterior = Posterior(
        names=("lr",), mean_P=np.zeros(1), scale_PP=np.eye(1), dof=5.0, priors={"lr": (0.0, 3.0)}
    )  # fmt: skip
    found = average(posterior, [])
    assert (found.theory, found.claims, len(found.members)) == (0.0, {}, 1)
    assert not found.draws(10, np.random.default_rng(0))[1].any()
