"""The training: how many models, how large, on what, and how their hyperparameters were chosen."""

import numpy as np
import pandas as pd

from scalelab.laws.columns import PARAMS
from scalelab.laws.group import GroupLaws
from scalelab.laws.report_card.facts import Facts, span
from scalelab.laws.report_card.item import Item, half, item

SECTION = "Training"


def training(facts: Facts) -> list[Item]:
    """The lines on the runs."""
    conventions = facts.laws.conventions
    return [
        item(SECTION, "How many models were trained?", _models(facts)),
        item(SECTION, "Of which sizes?", _sizes(facts), "give a column that counts parameters"),
        _counted(facts),
        item(SECTION, "Of which shape, width and depth?", _shape(facts), "give the columns width and depth"),
        item(SECTION, "On how many tokens each, and how many a parameter?", _tokens(facts), "give the column tokens"),
        item(SECTION, "On which data?", ", ".join(facts.words("data")), "give the column data"),
        item(SECTION, "Was data repeated?", _repeated(facts), "give the column unique_tokens"),
        _flops(facts),
        item(SECTION, "Which optimizer?", ", ".join(facts.words("optimizer")), "give the column optimizer"),
        item(SECTION, "Which schedule: warm-up, decay, final learning rate?", _schedule(facts),
             "say what the learning rate does over a run, and whether it ended at the horizon"),
        item(SECTION, "How were hyperparameters chosen?", facts.of_groups(_chosen),
             "say how the learning rate and the batch of each size were set"),
        item(SECTION, "Do they change with scale, and by which rule?", _rule(facts), "give the column parametrization"),
        item(SECTION, "Is the training code open?", conventions.get("code"), "say where the code is"),
    ]  # fmt: skip


def _schedule(facts: Facts) -> str | None:
    """As stated, or from the full specifications of run folders."""
    if stated := facts.laws.conventions.get("schedule"):
        return stated
    horizons = [spec["horizon"] for spec in (facts.laws.template or {}).values() if isinstance(spec, dict)
                and {"schedule", "warmup_fraction"} <= set(spec.get("horizon", {}))]  # fmt: skip
    said = [
        f"{horizon['schedule']}, warm-up over {horizon['warmup_fraction']:.0%} of the steps" for horizon in horizons
    ]
    return "; ".join(dict.fromkeys(said)) or None


def _models(facts: Facts) -> str:
    runs, diverged = facts.sum(lambda g: g.n_runs), facts.sum(lambda g: g.n_diverged)
    scales = facts.of_groups(_scales)
    return f"{runs} runs, {diverged} of which diverged" + (f"; {scales}" if scales else "")


def _scales(group: GroupLaws) -> str | None:
    if group.joint is not None:
        return f"{group.joint.n_cells} scales"
    return f"{len(group.optima)} scales" if group.optima else None


def _sizes(facts: Facts) -> str | None:
    if facts.count is None:
        return None
    return f"{facts.count} {span(facts.values(facts.count))}"


def _counted(facts: Facts) -> Item:
    question, advice = "What counts as a parameter?", "say whether embeddings count; exponents depend on it"
    stated = facts.laws.conventions.get("params")
    if facts.count is None:
        return item(SECTION, question, None, advice)
    if facts.count == "params":
        return half(SECTION, question, stated or PARAMS["params"], advice)
    return item(SECTION, question, stated or PARAMS[facts.count])


def _shape(facts: Facts) -> str | None:
    return ", ".join(f"{name} {span(facts.values(name))}" for name in ("width", "depth") if len(facts.values(name)))


def _tokens(facts: Facts) -> str | None:
    tokens = facts.values("tokens")
    if not len(tokens):
        return None
    ratio = _quotient(facts.runs, "tokens", facts.count)
    return f"tokens {span(tokens)}" + (f"; {ratio[0]:.3g} to {ratio[1]:.3g} a parameter" if ratio is not None else "")


def _repeated(facts: Facts) -> str | None:
    epochs = _quotient(facts.runs, "tokens", "unique_tokens")
    if epochs is None:
        return None
    return "no, every token once" if epochs[1] <= 1 + 1e-9 else f"yes, up to {epochs[1]:.3g} epochs"


def _quotient(runs: pd.DataFrame | None, over: str, under: str | None) -> tuple[float, float] | None:
    if runs is None or under is None or not {over, under} <= set(runs.columns):
        return None
    ratio = pd.to_numeric(runs[over], errors="coerce") / pd.to_numeric(runs[under], errors="coerce")
    return float(np.nanmin(ratio)), float(np.nanmax(ratio))


def _flops(facts: Facts) -> Item:
    question = "How is compute counted?"
    stated = facts.laws.conventions.get("flops")
    advice = "say what cost_flops holds: 6ND, attention, embeddings, validation"
    if stated and stated != "none stated":
        return item(SECTION, question, stated)
    if len(facts.values("cost_flops")):
        return half(SECTION, question, "in the column cost_flops, by a rule that is not stated", advice)
    return half(SECTION, question, "not in the table; 6ND where a budget is needed", advice)


def _chosen(group: GroupLaws) -> str | None:
    if not group.optima:
        return None
    lrs = sorted(optimum.n_lrs for optimum in group.optima)
    said = f"{lrs[len(lrs) // 2]} learning rates a scale were swept ({lrs[0]} to {lrs[-1]})"
    batches = {optimum.scale["batch_tokens"] for optimum in group.optima if "batch_tokens" in optimum.scale}
    if len(batches) > 1:
        said += f", {len(batches)} batches"
    elif "batch_tokens" in group.key:
        said += f", at a batch of {group.key['batch_tokens']:g} tokens"
    inside = sum(optimum.status == "INTERIOR" for optimum in group.optima)
    return f"{said}; {inside} of {len(group.optima)} sweeps have the optimum inside"


def _rule(facts: Facts) -> str | None:
    tables = facts.words("parametrization")
    return f"by the parametrization {', '.join(tables)}, from the values of its base" if tables else None
