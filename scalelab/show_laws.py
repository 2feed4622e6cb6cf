"""What `fit` prints: optima, exponents by both ways of fitting, loss laws, and how far to trust them."""

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from scalelab.console import grid, interval, say
from scalelab.laws import Estimate, GroupLaws, Laws, drift
from scalelab.laws.joint.result import Joint
from scalelab.plots import titles
from scalelab.plots.named import independent

Told = tuple[str, Table]  # a heading and what stands under it
ROWS = 24  # of optima on the console; all of them are in optima.csv
SHORT = {name: name.replace("params_", "N ").replace("_", " ") for name in ("params_non_embedding", "params_total",
         "params_active", "batch_tokens", "unique_tokens", "weight_decay")}  # fmt: skip


def laws(found: Laws, console: Console) -> None:
    """Everything that was fitted to every group, with what was not and why."""
    for name, group in zip(titles(found), found.groups, strict=True):
        _head(name, group, console)
        for found_of in (_optima, _exponents, _hold_out, _forms, _published):
            if (told := found_of(group)) is not None:
                heading, table = told
                if heading:
                    say(console, heading, "italic")
                console.print(table)
        for text in _sentences(group):
            say(console, text)
        for text in _warnings(group):
            say(console, f"warning: {text}", "yellow")
        for what, reason in group.not_fitted.items():
            say(console, f"{what}: not fitted: {reason}", "dim")
        say(console, "")


def _head(name: str, group: GroupLaws, console: Console) -> None:
    fixed = [(column, value) for column, value in group.key.items() if not isinstance(value, str)]
    if group.optima:
        fixed += [(x, values.pop()) for x, values in _values(group).items() if len(values) == 1]
    at = ", ".join(f"{SHORT.get(column, column)} {value:,g}" for column, value in fixed)
    say(console, f"{name}{f' at {at}' if at else ''}", "bold")
    counts = {
        "diverged": group.n_diverged,
        "failed, left out": group.n_failed,
        "repeated, counted once": group.n_repeated,
    }
    swept = {"diverged"} if group.optima else set[str]()  # of a sweep worth saying also where none did
    dropped = [f"{count} {what}" for what, count in counts.items() if count or what in swept]
    noise = "" if group.noise is None else (
        f"; noise {group.noise.sd_nats:.4f} nats ({group.noise.source}, {group.noise.dof} degrees of freedom)"
    )  # fmt: skip
    say(console, f"{group.n_runs} runs{', ' if dropped else ''}{', '.join(dropped)}{noise}")


def _values(group: GroupLaws) -> dict[str, set[float]]:
    return {name: {optimum.scale[name] for optimum in group.optima} for name in group.optima[0].scale}


def _optima(group: GroupLaws) -> Told | None:
    """Every scale's best learning rate; where batches were swept, every scale's best of both."""
    if not group.optima:
        return None
    if len(group.optima) > ROWS and group.joint is not None:
        return _cells(group.joint)
    varying = independent([optimum.scale for optimum in group.optima])
    rows = [
        (
            *(f"{optimum.scale[name]:,.6g}" for name in varying),
            interval(optimum.lr, optimum.lr_low, optimum.lr_high, ".3g"),
            "—" if optimum.loss_nats is None else f"{optimum.loss_nats:.4f}",
            f"{optimum.n_runs}{f' ({optimum.n_diverged}×)' if optimum.n_diverged else ''}",
            optimum.status.lower().replace("_", " "),
        )
        for optimum in group.optima
    ]
    return _few(len(rows)), grid(
        "", (*_short(varying), "optimal lr [95 %]", "loss", "runs", "status"), rows[:ROWS], left=0
    )  # fmt: skip


def _cells(joint: Joint) -> Told:
    varying = [name for name in joint.reference if name in joint.domain and name != "batch_tokens"]
    rows = [
        (
            *(f"{cell.scale[name]:,.6g}" for name in varying),
            *(_own(*cell.settings[q]) if q in cell.settings else "—" for q in joint.coordinates),
            f"{math.exp(cell.log_loss):.4f}",
        )
        for cell in joint.cells
    ]
    head = (*_short(varying), *(f"best {name} [95 %]" for name in _short(joint.coordinates)), "loss")
    return _few(len(rows)), grid("", head, rows[:ROWS], left=0)


def _own(log: float, sd: float) -> str:
    return interval(math.exp(log), math.exp(log - 1.96 * sd), math.exp(log + 1.96 * sd), ".3g")


def _few(count: int) -> str:
    return "" if count <= ROWS else f"{ROWS} of {count}; the others are in optima.csv"


def _short(names: Iterable[str]) -> list[str]:
    return [SHORT.get(name, name) for name in names]


def _exponents(group: GroupLaws) -> Told | None:
    """The joint law beside the two-stage one: what each says of every exponent."""
    two = group.lr_fits.get("power") or group.lr_fits.get("power_params")
    size = group.lr_fits.get("power_params")
    rows = []
    joint = group.joint
    wanted = [(q, x) for q, of in joint.coordinates.items() for x in of] if joint is not None else []
    if joint is None and two is not None:
        wanted = [("lr", x) for x in two.reference]
    for q, x in wanted:
        one = joint.estimates.get(f"{q} ~ {x}") if joint is not None else None
        other = None
        if q == "lr":
            stage = size if size is not None and x in size.reference else two
            other = stage.estimates.get(x) if stage is not None and x in stage.reference else None
        rows.append((SHORT.get(q, q), SHORT.get(x, x), _signed(one), _signed(other)))
    if not rows:
        return None
    return "", grid("", ("optimum of", "exponent in", "joint [95 %]", "two stages [95 %]"), rows, left=2)


def _signed(e: Estimate | None) -> str:
    return "—" if e is None else interval(e.value, e.low, e.high, "+.3f")


def _hold_out(group: GroupLaws) -> Told | None:
    if group.validation is None:
        return None
    held = ", ".join(
        f"{SHORT.get(k, k)} {v:,.6g}" for k, v in group.validation.held_out[0].items() if k in _told(group)
    )
    more = len(group.validation.held_out) - 1
    title = f"Largest scale left out ({held}{f' and {more} more' if more else ''}): what the choice would have lost"
    rows = [
        (
            score.method,
            f"{score.mean_percent:.3f} %",
            f"{score.worst_percent:.3f} %",
            "—" if score.measured_percent is None else f"{score.measured_percent:.3f} %",
            "—" if score.covered is None else f"{score.covered:.0%}",
            ", ".join(f"{SHORT.get(k, k)} {v:.3g}" for k, v in score.chosen[0].items()),
        )
        for score in group.validation.scores
    ]
    return title, grid("", ("way", "mean", "worst", "by its runs", "in interval", "choice at the first"), rows, left=1)


def _told(group: GroupLaws) -> set[str]:
    return {name for name, (low, high) in (group.joint.domain if group.joint else {}).items() if low < high}


def _forms(group: GroupLaws) -> Told | None:
    if not group.loss_scores:
        return None
    rows = [
        (
            score.law, str(score.parameters), f"{score.aicc:.1f}",
            "—" if score.cv_percent is None else f"{score.cv_percent:.2f} %",
            "—" if score.hold_out_percent is None else f"{score.hold_out_percent:+.2f} %", f"{score.weight:.0%}",
        )
        for score in group.loss_scores
    ]  # fmt: skip
    head = ("law", "numbers", "ΔAICc", "error, sizes left out", "at the largest", "weight")
    return "Forms of the loss law", grid("", head, rows, left=1)


def _published(group: GroupLaws) -> Told | None:
    if not group.compared:
        return None
    rows = [
        (c.name, c.output.replace("_", " "), str(c.scales), f"{c.mean_percent:.3f} %", f"{c.worst_percent:.3f} %")
        for c in group.compared
    ]
    what = "Published laws on these runs: excess loss of their settings, error of their losses"
    return what, grid("", ("law", "of", "scales", "mean", "worst"), rows, left=2)


def _sentences(group: GroupLaws) -> Iterator[str]:
    by_output = {fit.law.output: (name, fit) for name, fit in reversed([*group.setting_fits.items()])}
    for name, fit in (*by_output.values(), *[*group.loss_fits.items()][:1]):  # the best of each
        numbers = ", ".join(f"{p} {interval(e.value, e.low, e.high, '.4g')}" for p, e in fit.estimates.items())
        yield f"{name}: {fit.law.form}; {numbers}; {fit.status}"
    if group.joint is not None:
        yield f"joint: {group.joint.status}"
    if "power" in group.lr_fits:
        yield f"two stages: {group.lr_fits['power'].status}"
    for found in group.compared:
        if found.note:
            yield f"{found.name}: {found.note}"
    varying = independent([optimum.scale for optimum in group.optima]) if group.optima else []
    if len(varying) == 1 and (moved := drift(group)):
        yield (
            f"drift from {moved.scale} {moved.smallest:g} to {moved.largest:g}: {moved.octaves:+.2f} ±"
            f" {moved.sd_octaves:.2f} octaves; at the largest, the smallest's optimum would lose"
            f" {moved.copy_cost_nats:.4f} nats"
        )
    for card in group.cards:
        at = ", ".join(f"{SHORT.get(k, k)} {v:.4g}" for k, v in card.target.items())
        moves = ", ".join(f"{SHORT.get(k, k)} ×{ratio:.3g}" for k, ratio in card.spread.items())
        yield f"sensitivity at {at}: {len(card.variations) - 1} choices varied move the projection by at most {moves}"


def _warnings(group: GroupLaws) -> Sequence[str]:
    said = list(group.joint.warnings) if group.joint is not None else []
    for name, fit in group.loss_fits.items():
        said += [f"{name}: {text}" for text in fit.warnings]
        break
    return said
