"""Run folders → one table for people: a row a run, the usual columns, and one for every other setting that varies."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab.collection.rows import columns_of
from scalelab.counted import counted
from scalelab.errors import Refused
from scalelab.spec import leaves
from scalelab.trials import FINAL, TRIAL_FILE, run_folders, trial_of

# Settings that the usual columns say already, by their place in a spec; and what follows from them.
SAID = frozenset((
    "parametrization", "optimizer", "model", "data.name", "data.sha256", "data.bytes_per_token", "shape.width",
    "shape.depth", "horizon.tokens", "horizon.batch_tokens", "hparams.lr", "hparams.weight_decay", "seed",
))  # fmt: skip
# And by what others they are settled, as long as they are: no column tells more than these.
SETTLED = {
    "shape.ffn": ("model", "shape.width"), "base.ffn": ("model", "base.width"),
    **{f"{of}.{name}": ("model", f"{of}.width") for of in ("shape", "base") for name in ("heads", "kv_heads")},
    "shape.vocab": ("data.name",), "base.vocab": ("data.name",), "data.vocab": ("data.name",),
}  # fmt: skip
RENAMED = {"shape.experts": "experts", "data.unique_tokens": "unique_tokens"}  # scales of laws
DIGITS = 8


def tidy(folders: Sequence[Path], *, curve: int = 0) -> pd.DataFrame:
    """The runs that have ended in study folders, or below them.

    `part` is the folder of a run's study as seen from the one given, `seconds` its share of its worker's time. A
    setting that differs between the runs has a column by its place in the spec (`architecture.qk_norm`). With `curve`,
    `train_loss_i_of_N` is the mean training loss, in nats, over the last half of the i-th of N equal parts of the run:
    NaN where it had ended before.

    Raises:
        Refused: without a run that has ended, or with one in two of the folders; on a torn or foreign trial.json; on a
            negative `curve`.
    """
    if curve < 0:
        raise Refused(f"curve={curve}: accepted is a number of points, 1 or more, or 0 for none")
    rows: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    seen: dict[Path, Path] = {}
    for folder in folders:
        for run in counted(run_folders(folder), f"reading {folder}"):
            itself = run.path.resolve()
            if itself in seen:
                raise Refused(f"{run.path} is in {seen[itself]} and in {folder}: give each run once")
            seen[itself] = folder
            plain = run.plain()
            trial = trial_of(plain, run.path / TRIAL_FILE)
            if trial.outcome not in FINAL:
                continue
            rows.append({
                "part": run.path.parent.relative_to(folder).as_posix() if run.path != folder else ".",
                "run": run.path.name,
                **columns_of(trial.spec),
                "loss_nats": trial.loss_nats,
                "outcome": trial.outcome.value,
                "cost_flops": float(trial.cost_flops),
                "seconds": round(float(trial.seconds), 2),
                **_points(run.metrics(), trial.spec.horizon.tokens, curve),
            })  # fmt: skip
            settings.append(_settings(plain["spec"]))
    if not rows:
        raise Refused(f"no run has ended in {', '.join(map(str, folders))} or below: train a sweep first")
    table = pd.DataFrame(rows)
    for name in _varied(settings):
        values = [each.get(name) for each in settings]
        whole = all(value is None or type(value) is int for value in values)
        # Beside a gap a whole number would become a float, of which a file keeps eight digits.
        table[RENAMED.get(name, name)] = pd.array(values, dtype="Int64") if whole else values
    return table.sort_values(["part", "run"], kind="stable", ignore_index=True)


def as_csv(table: pd.DataFrame) -> str:
    """A table as the text of a CSV file; losses and costs to eight digits."""
    text = io.StringIO()
    table.to_csv(text, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    return text.getvalue()


def _points(records: Iterable[Mapping[str, Any]], tokens: int, count: int) -> dict[str, float]:
    """The curve at `count` points."""
    if not count:
        return {}
    curve = pd.DataFrame(list(records), columns=["tokens", "loss_nats"], dtype=float)
    place = curve["tokens"] / tokens * count
    return {
        f"train_loss_{point}_of_{count}": curve["loss_nats"][(place >= point - 0.5) & (place < point)].mean()
        for point in range(1, count + 1)
    }


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's leaves, a corpus's options each by its name (`data.path`); a path below this folder as seen from it."""
    found = dict(leaves(spec))
    for name, value in found.pop("data.options", None) or ():
        inside = isinstance(value, str) and Path(value).is_relative_to(Path.cwd())
        found[f"data.{name}"] = Path(value).relative_to(Path.cwd()).as_posix() if inside else value
    return found


def _varied(settings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = dict.fromkeys(name for each in settings for name in each if name not in SAID)
    for name in names:
        by = SETTLED.get(name, ())
        if len(_values(settings, (name, *by))) > len(_values(settings, by)):
            yield name


def _values(settings: Sequence[Mapping[str, Any]], names: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(str(each.get(name)) for name in names) for each in settings}
