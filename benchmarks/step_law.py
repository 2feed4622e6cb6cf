"""Leave the largest scales out: which law sets the learning rate and batch of runs that it has not seen?

On the published Step Law runs (arXiv:2503.04715). A setting costs what the held-out scale's own grid says, by linear
interpolation in log2 lr × log2 batch, over that grid's lowest loss. Grid minima are lucky by .02 to .1 %, so that
differences below .05 % mean nothing. `python benchmarks/laws.py --step-law`
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator

from scalelab.laws import PUBLISHED
from scalelab.laws.checked import checked
from scalelab.laws.joint.fit import fit_joint

SEQUENCE = 2048  # tokens
DIVERGED_NATS = 4.0  # a smoothed loss above is of a run that diverged
SCALE = ["params_non_embedding", "tokens"]
SETTING = ["lr", "batch_tokens"]

Cell = tuple[float, float]  # parameters, tokens
Setting = tuple[float, float]  # learning rate, tokens a batch
Setter = Callable[[Cell], Setting]


def read(path: Path) -> pd.DataFrame:
    """A row a run; learning rates of a √2 grid, which the file rounds in two ways, made equal."""
    runs = pd.read_csv(path)
    loss = runs["smooth loss"]
    table = pd.DataFrame(
        {
            "params_non_embedding": runs["N"].astype(float),
            "tokens": runs["D"].astype(float),
            "batch_tokens": SEQUENCE * runs["bs"].astype(float),
            "lr": 2 ** (np.round(2 * np.log2(runs["lr"])) / 2),
            "loss_nats": loss.where(loss <= DIVERGED_NATS),
            "outcome": np.where(loss <= DIVERGED_NATS, "OK", "DIVERGED"),
        }
    )
    return table.groupby([*SCALE, *SETTING, "outcome"], as_index=False, dropna=False)["loss_nats"].mean()


def excess(grid: pd.DataFrame, setting: Setting) -> float:
    """What a setting costs over the lowest loss of a cell's runs that ended well, in %; NaN where runs diverged."""
    at = np.log2(grid[SETTING].to_numpy(float))
    loss = grid["loss_nats"].to_numpy(float)
    inside = np.clip(np.log2(setting), at.min(axis=0), at.max(axis=0))
    return 100 * (float(LinearNDInterpolator(at, loss)(inside)[0]) / loss.min() - 1)


def splits(cells: list[Cell]) -> dict[str, list[Cell]]:
    """Held-out cells by name."""
    by_size = sorted(cells, key=lambda cell: cell[0] * cell[1])
    return {
        "N = 1.07B": [cell for cell in cells if cell[0] > 1e9],
        "N ≥ 537M": [cell for cell in cells if cell[0] > 5.3e8],
        "6ND ≥ 7e19": [cell for cell in cells if 6 * cell[0] * cell[1] >= 7e19],
        "all but 5 small": by_size[5:],
    }


def joint(runs: pd.DataFrame) -> Setter:
    fitted = fit_joint(checked(runs), draws=100, rng=np.random.default_rng(0), profiles=False)

    def setting(cell: Cell) -> Setting:
        values = fitted.predict(params_non_embedding=cell[0], tokens=cell[1]).values
        return values["lr"].value, values["batch_tokens"].value

    return setting


def step_law(_: pd.DataFrame) -> Setter:
    lr, batch = PUBLISHED["step_law_lr/step_law"], PUBLISHED["step_law_batch/step_law"]
    return lambda cell: (lr.predict(params=cell[0], tokens=cell[1]), batch.predict(tokens=cell[1]))


def deepseek(_: pd.DataFrame) -> Setter:
    lr, batch = PUBLISHED["deepseek_lr/deepseek"], PUBLISHED["deepseek_batch/deepseek"]

    def setting(cell: Cell) -> Setting:
        cost = 6 * cell[0] * cell[1]
        return lr.predict(cost_flops=cost), batch.predict(cost_flops=cost)

    return setting


def copied(runs: pd.DataFrame) -> Setter:
    """The best setting of the largest size, trained longest."""
    finished = runs[runs["outcome"] == "OK"]
    largest = finished[finished["params_non_embedding"] == finished["params_non_embedding"].max()]
    longest = largest[largest["tokens"] == largest["tokens"].max()]
    best = longest.loc[longest["loss_nats"].idxmin()]
    return lambda _: (float(best["lr"]), float(best["batch_tokens"]))


METHODS: dict[str, Callable[[pd.DataFrame], Setter]] = {
    "joint fit": joint,
    "published Step Law": step_law,
    "DeepSeek": deepseek,
    "copy the largest trained": copied,
}


def main(path: Path) -> None:
    runs = read(path)
    grids = {cell: rows[rows["outcome"] == "OK"] for cell, rows in runs.groupby(SCALE)}
    held_out = splits(list(grids))
    cell_of_row = pd.MultiIndex.from_frame(runs[SCALE])
    print(f"Step Law: {len(runs)} settings of {len(grids)} scales; mean excess loss, %, at the predicted setting")
    names = "".join(f"{name + f' ({len(cells)})':>21}" for name, cells in held_out.items())
    print(f"{'':26}{names}{'s a fit':>9}")
    for method, fit in METHODS.items():
        row, seconds = [], []
        for cells in held_out.values():
            start = time.perf_counter()
            setting = fit(runs[~cell_of_row.isin(cells)])
            seconds.append(time.perf_counter() - start)
            row.append(np.mean([excess(grids[cell], setting(cell)) for cell in cells]))
        print(f"{method:26}" + "".join(f"{value:>21.3f}" for value in row) + f"{np.mean(seconds):>9.2f}")
