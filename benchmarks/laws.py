"""Time of fitting laws beside what the field does, in one run and on one thread.

    python benchmarks/laws.py             Chinchilla's law on the 240 points of arXiv:2404.10102 (synthetic if absent)
    python benchmarks/laws.py --step-law  the largest scales left out, on the runs of arXiv:2503.04715

The plain script starts L-BFGS-B with finite differences from a grid of 4,500 points, as Hoffmann et al. and those who
repeat them do; of its starts, and of its refits, a sample is run and the time scaled.
"""

# ruff: noqa: E402 - threads are set before numpy is loaded
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import step_law
from scipy.optimize import minimize

from scalelab.laws import LAWS, LEAST_ABSOLUTE, Objective, fit
from scalelab.laws.checked import checked
from scalelab.laws.observations import Observations, observations
from scalelab.laws.solve.bootstrap import bootstrap, stretch
from scalelab.laws.solve.covariance import covariance
from scalelab.laws.solve.fit import Point, point
from scalelab.laws.solve.profile import profile

Array = npt.NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")

DATA = Path(os.environ.get("SCALELAB_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
LAW = LAWS["chinchilla"]
HUBER = Objective(delta=1e-3)
# Each with the unit in which a script would state it: the sum as published, or the sum of absolute residuals.
OBJECTIVES = {"Huber 1e-3": (HUBER, 1.0), "least absolute": (LEAST_ABSOLUTE, LEAST_ABSOLUTE.delta)}
AT_BEST = 1e-4  # relative, of the objective
# Of Hoffmann et al., in the order of `Plain`: two exponents, ln A and ln B, ln E.
EXPONENTS, COEFFICIENTS, FLOORS = np.arange(0, 2.5, 0.5), np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5)
GRID = list(itertools.product(EXPONENTS, EXPONENTS, COEFFICIENTS, COEFFICIENTS, FLOORS))
PLAIN_STARTS, PLAIN_REFITS = 60, 40  # run of the plain script's
REFITS = (1000, 4000)
TABLES = (1_000, 10_000, 100_000)
TABLE_DRAWS = 100


def timed(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    return call(*args, **kwargs), time.perf_counter() - start


def synthetic(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Runs of the published law at sizes and tokens like those of arXiv:2203.15556, with 0.5 % of noise."""
    inputs = {
        "params": np.exp(rng.uniform(np.log(4e7), np.log(1.6e10), n)),
        "tokens": np.exp(rng.uniform(np.log(3e8), np.log(3e11), n)),
    }
    loss = LAW.value(LAW.published["epoch"].parameters, inputs) * np.exp(0.005 * rng.standard_normal(n))
    return pd.DataFrame({**inputs, "loss_nats": loss})


def chinchilla_points() -> tuple[pd.DataFrame, str]:
    """The points without the five of the highest loss, as published, or as many synthetic ones."""
    path = DATA / "epoch_chinchilla" / "svg_extracted_data.csv"
    if not path.exists():
        return synthetic(240, np.random.default_rng(0)), f"synthetic, as {path} is absent"
    read = pd.read_csv(path)
    tokens = read["Training FLOP"] / (6 * read["Model Size"])
    table = pd.DataFrame({"params": read["Model Size"], "tokens": tokens, "loss_nats": read["loss"]})
    return table.sort_values("loss_nats").iloc[:-5], "arXiv:2404.10102"


class Plain:
    """The objective as a script writes it: θ = (α, β, ln A, ln B, ln E)."""

    def __init__(self, seen: Observations, objective: Objective, unit: float) -> None:
        self.log_N, self.log_D = np.log(seen.inputs["params"]), np.log(seen.inputs["tokens"])
        self.log_loss, self.objective, self.unit = np.log(seen.output_N), objective, unit

    def value(self, theta: Array, weight: Array | float = 1.0) -> float:
        return float((weight * self.objective.rho(self._residual(theta)[0])).sum()) / self.unit

    def gradient(self, theta: Array, weight: Array | float = 1.0) -> Array:
        residual, share = self._residual(theta)
        slope = np.stack([-self.log_N * share[0], -self.log_D * share[1], *share])
        return np.asarray(slope @ (weight * self.objective.psi(residual))) / self.unit

    def _residual(self, theta: Array) -> tuple[Array, Array]:
        alpha, beta, a, b, e = theta
        terms = np.stack([a - alpha * self.log_N, b - beta * self.log_D, np.full_like(self.log_N, e)])
        total = np.logaddexp.reduce(terms)
        return total - self.log_loss, np.exp(terms - total)


def compare_fits(seen: Observations, name: str) -> Point:
    objective, unit = OBJECTIVES[name]
    point(LAW, seen, objective)  # the first call loads what scipy and numpy load late
    ours, seconds = timed(point, LAW, seen, objective)
    plain = Plain(seen, objective, unit)
    chosen = np.random.default_rng(0).choice(len(GRID), PLAIN_STARTS, replace=False)
    ends, sampled = timed(lambda: [minimize(plain.value, GRID[k], method="L-BFGS-B").fun for k in chosen])
    scaled = sampled * len(GRID) / PLAIN_STARTS
    best = ours.found.value / unit
    reached = float(np.mean(np.array(ends) <= best * (1 + AT_BEST)))
    print(f"\n{name}: {ours.found.starts} starts screened, {ours.found.followed} followed")
    print(f"plain: {len(GRID):,} starts followed, of which {PLAIN_STARTS} were run and their time scaled")
    print(f"{'':10}{'s':>9}{'objective':>16}{'starts at the best':>20}")
    print(f"{'scalelab':10}{seconds:>9.3f}{best:>16.10g}{ours.found.reached / ours.found.followed:>20.0%}")
    print(f"{'plain':10}{scaled:>9.1f}{min(ends):>16.10g}{reached:>20.0%}")
    print(f"{'ratio':10}{scaled / seconds:>9.0f}{min(ends) / best:>16.8f}")
    return ours


def compare_refits(seen: Observations, at: Point) -> None:
    theta_P, problem = at.found.theta_P, at.problem
    n, p = len(seen), len(theta_P)
    plain = Plain(seen, problem.objective, problem.objective.delta)  # of order 1, or L-BFGS-B stops too soon
    order = [problem.names.index(name) for name in ("alpha", "beta", "A", "B", "E")]
    for draws in REFITS:
        rng = np.random.default_rng(0)
        found, seconds = timed(bootstrap, problem, theta_P, seen.cluster_N, draws=draws, rng=rng)
        print(f"{draws:,} refits: {seconds:.2f} s")
    # The same resamples again, which is how the generator draws them.
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=PLAIN_REFITS).astype(float)

    def refitted() -> list[float]:
        start = theta_P[order]
        return [
            minimize(plain.value, start, args=(weight,), jac=plain.gradient, method="L-BFGS-B").fun for weight in counts
        ]

    theirs, sampled = timed(refitted)
    ours = theta_P + (found.theta_DP[:PLAIN_REFITS] - theta_P) / stretch(n, p)
    values = [plain.value(theta[order], weight) for theta, weight in zip(ours, counts, strict=True)]
    scaled = sampled * REFITS[-1] / PLAIN_REFITS
    print(
        f"L-BFGS-B with the exact gradient, one at a time: {scaled:.1f} s for {REFITS[-1]:,} ({PLAIN_REFITS}, scaled),"
        f" {scaled / seconds:.1f} times ours; objective {np.median(np.array(theirs) / values):.6f} times ours"
    )
    spread = covariance(problem, theta_P, seen.cluster_N)
    _, seconds = timed(profile, problem, theta_P, at.found.value, spread, clusters=n)
    print(f"profile of all {p} parameters: {seconds:.2f} s")


def large_tables() -> None:
    print(f"\nreading and fitting, with {TABLE_DRAWS} refits and profiles")
    print(f"{'rows':>9}{'read s':>9}{'fit s':>9}{'µs a row':>10}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for rows in TABLES:
            path = Path(folder) / f"{rows}.csv"
            synthetic(rows, np.random.default_rng(1)).to_csv(path, index=False)
            table, reading = timed(pd.read_csv, path)
            _, fitting = timed(fit, table, LAW, objective=HUBER, draws=TABLE_DRAWS)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of the process until now, KiB on Linux
            print(f"{rows:>9,}{reading:>9.2f}{fitting:>9.2f}{1e6 * (reading + fitting) / rows:>10.0f}{peak:>10.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-law", action="store_true", help="leave the largest scales out instead")
    if parser.parse_args().step_law:
        step_law.main(DATA / "steplaw" / "dense_lr_bs_loss.csv")
        return
    table, source = chinchilla_points()
    seen = observations(checked(table), LAW)
    print(f"{LAW.form}; {len(seen)} points, {source}; one thread")
    for name in OBJECTIVES:
        compare_refits(seen, compare_fits(seen, name))
    large_tables()


if __name__ == "__main__":
    main()
