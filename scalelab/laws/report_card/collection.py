"""The data collected: which checkpoints, which metric, and what was done to it before the fit."""

from scalelab.laws.columns import NAMES, SETTINGS
from scalelab.laws.group import GroupLaws
from scalelab.laws.report_card.facts import Facts
from scalelab.laws.report_card.item import Item, half, item

SECTION = "Data collection"


def collection(facts: Facts) -> list[Item]:
    """The lines on the measurements."""
    conventions = facts.laws.conventions
    return [
        item(SECTION, "How many checkpoints of each run are used?", _checkpoints(facts), "give the table, a row a run"),
        _metric(facts),
        item(SECTION, "Was the metric smoothed or otherwise changed?", _smoothed(conventions.get("loss")),
             "say whether the loss is a last, mean or smoothed value"),
        item(SECTION, "What does the fit make of it?", facts.of_groups(_made)),
        item(SECTION, "Where did the runs come from?", ", ".join(facts.laws.sources),
             "give the table's source, and say whether its checkpoints are open"),
        item(SECTION, "How noisy is one run?", facts.of_groups(_noise),
             "replicate some runs with other seeds: nothing else tells noise from misfit"),
    ]  # fmt: skip


def _checkpoints(facts: Facts) -> str | None:
    if facts.runs is None:
        return None
    if "run" not in facts.runs:
        return "a row a run: one"
    apart = [name for name in (*NAMES, *SETTINGS) if name in facts.runs]  # runs of several groups may share names
    counts = facts.runs.groupby([*apart, "run"], dropna=False).size()
    if int(counts.max()) == 1:
        return "one"
    return f"{int(counts.min())} to {int(counts.max())}; rows of one run are resampled together"


def _metric(facts: Facts) -> Item:
    question = "Which metric, on which data?"
    if stated := facts.laws.conventions.get("loss"):
        return item(SECTION, question, stated)
    return half(SECTION, question, "loss_nats, cross entropy in nats a token; on which data is not stated",
                "say which set it was measured on, and over how many tokens")  # fmt: skip


def _smoothed(loss: str | None) -> str | None:
    return "yes, smoothed, says the name of its column" if loss and "smooth" in loss else None


def _made(group: GroupLaws) -> str | None:
    said = []
    if group.lr_fits or group.joint is not None:
        said.append("valleys are fitted to losses near each scale's best, seeds averaged")
    if group.loss_fits:
        said.append("loss laws are fitted to the floors of those valleys" if group.optima else
                    "loss laws are fitted to the losses as they are")  # fmt: skip
    return "; ".join(said) or None


def _noise(group: GroupLaws) -> str | None:
    if group.noise is None or group.noise.source == "assumed":
        return None
    return f"sd {group.noise.sd_nats:.2g} nats, from {group.noise.source} ({group.noise.dof} degrees of freedom)"
