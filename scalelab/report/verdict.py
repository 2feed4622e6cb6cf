"""The first lines of a page of laws: what is best at the largest scale, how it moves, and what that was worth."""

import math
from collections.abc import Mapping

from scalelab.console import interval, number
from scalelab.laws import GroupLaws
from scalelab.laws.draw.style import at, short
from scalelab.laws.joint.result import Joint
from scalelab.plots.curves import joint_band, path_of, two_stage_band
from scalelab.plots.named import cells_of, independent
from scalelab.report.section import Section, Study, said_of

FORM = {"lr": ".3g", "weight_decay": ".3g", "tau": ".3g"}


def verdict(study: Study) -> Section:
    """What a reader in a hurry needs."""
    said: list[str] = []
    for name, group in study.groups:
        said += [said_of(name, sentence) for _, sentence in in_words(group)]
    return Section(title="In short", sentences=tuple(said))


def in_words(group: GroupLaws) -> list[tuple[str, str]]:
    """What a group says, each sentence with what it is about."""
    told = {
        "the best there": _best, "how it moves": _exponents, "a test of it": _held_out, "the loss": _loss,
    }  # fmt: skip
    return [(about, sentence) for about, tell in told.items() for sentence in tell(group)]


def largest(group: GroupLaws) -> dict[str, float] | None:
    """The largest scale of a group, by parameters and tokens."""
    cells = cells_of(group)
    if not cells:
        return None
    return max(
        cells, key=lambda cell: sum(math.log(v) for k, v in cell.items() if k not in ("batch_tokens",) and v > 0)
    )


def _place(scale: Mapping[str, float], group: GroupLaws) -> str:
    varied = [name for name in independent(cells_of(group)) if name not in ("batch_tokens", "weight_decay")]
    return ", ".join(at(name, scale[name]) for name in varied or scale)


def _best(group: GroupLaws) -> list[str]:
    scale = largest(group)
    if scale is None:
        return []
    if group.joint is not None:
        known = {name: value for name, value in scale.items() if name in group.joint.domain and name != "batch_tokens"}
        setting = group.joint.predict(**known)
        what = ", ".join(
            f"{name.replace('_', ' ')} "
            + (f"{short(p.value)} [{short(p.low)}, {short(p.high)}]" if name == "batch_tokens"
               else interval(p.value, p.low, p.high, FORM.get(name, ".3g")))
            for name, p in setting.values.items()
        )  # fmt: skip
        cost = f"{100 * setting.expected_excess:.2g} % of the loss"
        return [f"At the largest scale, {_place(scale, group)}, best is {what}; not knowing it better costs {cost}."]
    found = next(o for o in group.optima if o.scale == scale)
    best = interval(found.lr, found.lr_low, found.lr_high, ".3g")
    status = found.status.lower().replace("_", " ")
    return [f"At the largest scale, {_place(scale, group)}, the best learning rate is {best} ({status})."]


def _exponents(group: GroupLaws) -> list[str]:
    cells = cells_of(group)
    if not cells:
        return []
    scale = (independent(cells) or list(cells[0]))[0]
    path = path_of(cells, scale, {})
    joint: Joint | None = group.joint
    bands = [joint_band(group, q, path) for q in joint.coordinates] if joint is not None else []
    words = [band.words for band in bands or [two_stage_band(group, path)] if band is not None]
    return [f"It moves as {'; '.join(words)} (95 % intervals)."] if words else []


def _held_out(group: GroupLaws) -> list[str]:
    if (found := group.validation) is not None:
        ways = "; ".join(f"{s.method} {s.mean_percent:.2g} %" for s in found.scores[:4])
        place = " and ".join(_place(scale, group) for scale in found.held_out[:2])
        more = f" and {len(found.held_out) - 2} more" if len(found.held_out) > 2 else ""
        return [f"Left out ({place}{more}) and predicted from the smaller ones, the setting would have lost: {ways}."]
    for name, fit in group.lr_fits.items():
        if (out := fit.hold_out) is not None:
            off, cost = f"{out.error_octaves:+.2f} octaves", number(out.excess_nats, ".2g")
            return [f"The largest scale left out is predicted {off} off by the {name} law, which costs {cost} nats."]
    return []


def _loss(group: GroupLaws) -> list[str]:
    if not group.loss_fits:
        return []
    name, fit = next(iter(group.loss_fits.items()))
    score = next((score for score in group.loss_scores if score.law == name), None)
    said = f"The loss follows {name} best: {fit.law.form}"
    if score is not None and score.hold_out_percent is not None:
        said += f"; the largest size left out is predicted {score.hold_out_percent:+.2g} % off"
    return [f"{said}."]
