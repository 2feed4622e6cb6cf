"""Samplers on real proxies, each with the same compute: a language model on text and a ResNet on digits.

    python analysis/search_samplers.py [--seeds 3] [--samplers tpe law] [--runs runs/search_samplers]

Every search proposes width and tokens too, and stops before the run that would pass its budget of full runs. What it
then recommends is trained at full scale on seeds that no search has seen; the figure shows those losses beside the
start's own settings at full scale, which take no search. Runs that are finished are not run again.
"""

# ruff: noqa: E402 - the benchmark's samplers are found first
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "benchmarks"))

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution
from search.problem import Params, Problem
from search.samplers import SAMPLERS, law

from scalelab.jobs import run_job
from scalelab.plan import composed
from scalelab.plots.samplers import NO_SEARCH, sampler_summary, samplers
from scalelab.spec import RunSpec
from scalelab.trials import RunFolder

COMPARED = ("random", "nsga2", "tpe", "carbs", "law")
BUDGETS = (1, 4)  # full runs
MOST_TRIALS = 40
UNSEEN = (1000, 1001, 1002)  # seeds of the winners' runs
CONTEXT = 64


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A family of runs: `overrides` of every one; `guess_nats` is the loss of one that learned nothing."""

    overrides: tuple[str, ...]
    sequences: tuple[int, int]
    tokens: tuple[int, int]
    guess_nats: float

    def spec(self, params: Params, seed: int) -> RunSpec:
        """The run of a configuration, its tokens rounded to whole steps."""
        batch_tokens = CONTEXT * params["batch"]
        tokens = batch_tokens * max(1, round(params["tokens"] / batch_tokens))
        values = {"lr": params["lr"], "optimizer.weight_decay": params["weight_decay"], "width": params["width"]}
        values |= {"batch_tokens": batch_tokens, "tokens": tokens, "seed": seed}
        fixed = ("parametrization=mup", f"context={CONTEXT}", "head_dim=8", "base.width=8")
        return composed([*self.overrides, *fixed, *(f"{key}={value}" for key, value in values.items())])


PROXIES = {
    "language model": Proxy(
        overrides=("model=transformer", "data=embedded", "validation_tokens=8192"),
        sequences=(2, 32),
        tokens=(2_048, 24_576),
        guess_nats=math.log(256),
    ),
    "ResNet on digits": Proxy(
        overrides=("model=resnet", "data=digits"),
        sequences=(8, 64),
        tokens=(4_096, 65_536),
        guess_nats=math.log(10),
    ),
}


def loss(proxy: Proxy, params: Params, seed: int, runs: Path) -> float:
    """Validation nats, trained if it is not there; infinite where the run diverged."""
    spec = proxy.spec(params, seed)
    trial = run_job(spec, RunFolder(runs / spec.fingerprint))
    if trial is None:
        raise SystemExit(f"{runs / spec.fingerprint} is being trained by another process: wait for it")
    return math.inf if trial.loss_nats is None else trial.loss_nats


def problem(name: str, seed: int, runs: Path) -> Problem:
    """The search of a proxy; all runs of a search have its seed, so that its noise is between settings only."""
    proxy = PROXIES[name]

    @cache
    def flops_per_token(width: int) -> float:
        spec = proxy.spec({**start, "width": width}, 0)
        return spec.cost_flops / spec.horizon.tokens

    start = {"lr": 0.01, "weight_decay": 0.1, "batch": 2 * proxy.sequences[0], "width": 8, "tokens": proxy.tokens[0]}
    return Problem(
        name=name,
        space={
            "lr": FloatDistribution(2**-10, 1.0, log=True),
            "weight_decay": FloatDistribution(1e-3, 1.0, log=True),
            "batch": IntDistribution(*proxy.sequences, log=True),
            "width": IntDistribution(8, 32, step=8),
            "tokens": FloatDistribution(*proxy.tokens, log=True),
        },
        start=start,
        scales=("width", "tokens"),
        target={"width": 32, "tokens": proxy.tokens[1]},
        sizes={"params": {"width": 2}, "tokens": {"tokens": 1}},
        cost_flops=lambda params: flops_per_token(round(params["width"])) * params["tokens"],
        truth=lambda params: loss(proxy, params, seed, runs),
        noise=lambda rng: 0.0,
        best_nats=0.0,
    )


def advised(posed: Problem, sampler: str, seed: int) -> Iterator[tuple[dict[str, float], Params]]:
    """What a search recommends as each budget is spent: the budget, the trials and full runs it took, the settings."""
    if sampler == "law":  # it can be told that runs are as scarce as compute
        search = law(posed, seed, MOST_TRIALS, overhead_flops=max(BUDGETS) * posed.full_flops / MOST_TRIALS)
    else:
        search = SAMPLERS[sampler](posed, seed, MOST_TRIALS)
    left, spent, best = list(BUDGETS), 0.0, (math.inf, posed.start)
    for trial in range(MOST_TRIALS + 1):
        handle, params = search.ask()
        cost = posed.cost_flops(params)
        while left and (trial == MOST_TRIALS or spent + cost > left[0] * posed.full_flops):
            taken = {"full_runs": left.pop(0), "trials": trial, "spent": spent / posed.full_flops}
            yield taken, {**posed.raised(best[1]), **(search.recommend() or {}), **posed.target}
        if not left:
            return
        ended = posed.truth(params)
        search.tell(handle, ended, cost)
        spent += cost
        best = min(best, (ended, params), key=lambda each: each[0])


def compare(samplers: Sequence[str], seeds: int, runs: Path) -> pd.DataFrame:
    """A row a run of a winner."""
    rows: list[dict[str, Any]] = []

    def judge(about: dict[str, Any], params: Params) -> None:
        proxy = PROXIES[about["proxy"]]
        for unseen in UNSEEN:
            ended = min(loss(proxy, params, unseen, runs), proxy.guess_nats)
            rows.append({**about, **params, "seed": unseen, "loss_nats": ended})

    for name in PROXIES:
        posed = problem(name, 0, runs)
        nothing = {"search_seed": 0, "full_runs": 0, "trials": 0, "spent": 0.0}
        judge({"proxy": name, "sampler": NO_SEARCH, **nothing}, posed.raised(posed.start))
        for seed in range(seeds):
            for sampler in samplers:
                for taken, params in advised(problem(name, seed, runs), sampler, seed):
                    judge({"proxy": name, "sampler": sampler, "search_seed": seed, **taken}, params)
                print(f"{name}, {sampler}, seed {seed}: {rows[-1]['trials']} trials", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="searches of each sampler")
    parser.add_argument("--samplers", nargs="+", choices=COMPARED, default=COMPARED)
    parser.add_argument("--runs", type=Path, default=Path("runs/search_samplers"))
    given = parser.parse_args()
    results = compare(given.samplers, given.seeds, given.runs)
    (HERE / "results").mkdir(exist_ok=True)
    results.to_csv(HERE / "results" / "search_samplers.csv", index=False)
    samplers(results).savefig(HERE / "results" / "search_samplers.png", dpi=120)
    print(sampler_summary(results).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
