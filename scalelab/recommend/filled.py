"""What published laws do not give of a run: as the user said it, or as the papers that are named had it, or refused."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scalelab.errors import Refused
from scalelab.recipe import Value
from scalelab.recommend.papers import PAPERS, Paper

WARMUP = ("warmup_fraction", "warmup_tokens")
NEEDED = ("optimizer.weight_decay", "schedule", "warmup_fraction", "final_lr_ratio")
CONVENTION = ("context", "optimizer.beta1", "optimizer.beta2", "optimizer.eps", "optimizer.clip_norm")
LONGEST_WARMUP = 0.5  # of a run: what was stated in steps was meant for longer ones


@dataclass(frozen=True, kw_only=True)
class Filled:
    """`keys` of conf/train.yaml with their values, the same as rows of a recipe, whose settings were taken and how they
    were checked, and what the papers had otherwise."""

    keys: Mapping[str, Any]
    values: tuple[Value, ...]
    checked: Mapping[str, str]
    warnings: tuple[str, ...]


def filled(
    papers: Sequence[str],
    config: Mapping[str, Any],
    given: Collection[str],
    *,
    batch_tokens: int,
    steps: int,
    lr: float,
    weight_decay: float | None,
) -> Filled:
    """The keys beside learning rate and batch.

    Args:
        papers: names of `PAPERS`, the first that has a value gives it.
        config: as composed, with what the user said.
        given: the keys that the user said.
        batch_tokens, steps, lr: of the run, for what papers state in steps and as a learning rate.
        weight_decay: a law's, which needs no row here.

    Raises:
        Refused: where nobody gives a value that a run cannot do without.
    """
    keys: dict[str, Any] = {}
    values: list[Value] = []
    used: dict[str, str] = {}
    known = {name: _stated(PAPERS[name], batch_tokens, steps, lr) for name in papers if name in PAPERS}
    for key in (*NEEDED, *CONVENTION):
        if key == "optimizer.weight_decay" and weight_decay is not None:
            keys[key] = weight_decay
            continue
        if said := _said(key, given):
            values += [_row(name, _get(config, name), "asked", "as you said") for name in said]
            continue
        giver = next((name for name in papers if key in known.get(name, {})), None)
        if giver is not None:
            value, note = known[giver][key]
            keys |= value
            used[giver] = PAPERS[giver].checked
            rests = f"the setting of {PAPERS[giver].source}{note}"
            values += [_row(name, v, "published", rests) for name, v in value.items() if v is not None]
        elif key in NEEDED:
            raise _refusal(key, papers)
        else:
            values.append(_row(key, _get(config, key), "convention", "conf/train.yaml's own"))
    if keys.get("schedule", config["schedule"]) == "wsd":
        source, rests = (
            ("asked", "as you said") if "decay_fraction" in given else ("convention", "conf/train.yaml's own")
        )
        values.append(_row("decay_fraction", config["decay_fraction"], source, rests))
    differs = [f"{PAPERS[name].source} had otherwise: {'; '.join(PAPERS[name].differs)}"
               for name in papers if name in PAPERS and PAPERS[name].differs]  # fmt: skip
    known_by = [f"the setting of {PAPERS[name].source} is {checked}" for name, checked in used.items()]
    start = "its start is scalelab's (1/√fan_in, see init), the papers had their own"
    return Filled(keys=keys, values=tuple(values), checked=used, warnings=(*known_by, *differs, start))


def context_of(papers: Sequence[str]) -> int | None:
    """Tokens a sequence of the first of the papers that has it recorded."""
    found = (PAPERS[name].values.get("context") for name in papers if name in PAPERS)
    return next((int(context) for context in found if context is not None), None)


def _stated(paper: Paper, batch_tokens: int, steps: int, lr: float) -> dict[str, tuple[dict[str, Any], str]]:
    """A paper's setting as keys of conf/train.yaml at this batch and rate: key → (keys with values, a note)."""
    found: dict[str, tuple[dict[str, Any], str]] = {key: ({key: value}, "") for key, value in paper.values.items()}
    if "warmup_fraction" in found:
        found["warmup_fraction"][0]["warmup_tokens"] = None
    if paper.warmup_steps is not None and paper.warmup_steps <= LONGEST_WARMUP * steps:
        warmup = {"warmup_tokens": paper.warmup_steps * batch_tokens, "warmup_fraction": 0.0}
        found["warmup_fraction"] = (warmup, f", {paper.warmup_steps:,} steps")
    if paper.final_lr is not None:
        found["final_lr_ratio"] = ({"final_lr_ratio": min(1.0, paper.final_lr / lr)}, f", to {paper.final_lr:g}")
    return found


def _said(key: str, given: Collection[str]) -> list[str]:
    same = {"warmup_fraction": WARMUP, "optimizer.weight_decay": ("optimizer.weight_decay", "independent_weight_decay")}
    return [name for name in same.get(key, (key,)) if name in given]


def _refusal(key: str, papers: Sequence[str]) -> Refused:
    for name in papers:
        paper = PAPERS.get(name)
        if paper is not None and key in paper.lacking:
            return Refused(f"{name} and {key}: {paper.lacking[key]}")
        if paper is not None and key == "warmup_fraction" and paper.warmup_steps:
            return Refused(
                f"{name} warmed up for {paper.warmup_steps:,} steps, more than half of this run: say {key}=…"
            )
    givers = [name for name, paper in PAPERS.items() if key in paper.values]
    by_law = ["power_lines"] if key == "optimizer.weight_decay" else []
    return Refused(
        f"{', '.join(papers)} gives no {key}: say {key}=… after --, or name another paper too, of"
        f" {', '.join([*by_law, *givers])}"
    )


def _row(key: str, value: Any, source: str, rests_on: str) -> Value:
    plain = value if isinstance(value, str) or value is None else float(value)
    unit = "tokens" if key.endswith("_tokens") else ""
    return Value(name=key.rpartition(".")[2], value=plain, unit=unit, source=source, rests_on=rests_on)


def _get(config: Mapping[str, Any], key: str) -> Any:
    group, _, name = key.rpartition(".")
    return config[group][name] if group else config[name]
