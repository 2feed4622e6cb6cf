"""An explained configuration on the console: a paragraph a parameter group, its names beside its values."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import zip_longest

from rich.console import Console
from rich.table import Table

from scalelab.console import say
from scalelab.derivations import Value
from scalelab.explain import Explanation, Line, Part

NAMES = {"init_std": "init std", "weight_decay": "weight decay"}


def explanation(found: Explanation, console: Console) -> None:
    """All of it; no cell is ever cut."""
    say(console, f"{found.parametrization}: {found.title}; {found.model}, {found.optimizer}", "bold")
    say(console, f"source: {found.source}")
    moved = [size for size in found.sizes if size.target != size.base]
    same = [size for size in found.sizes if size.target == size.base]
    if found.unit_scaled:
        say(console, "base: the shape of ones, so a ratio is a size")
        same, moved = list(found.sizes), []
    for heading, sizes in (("base → target", moved), ("at both" if not found.unit_scaled else "sizes", same)):
        if sizes:
            say(console, f"{heading}: " + ", ".join(
                f"{s.name} {s.target:,}" if s in same else f"{s.name} {s.base:,} → {s.target:,}" for s in sizes
            ))  # fmt: skip
    say(console, f"weight decay policy {found.policy}")
    lines(found.lines, console)
    if found.takes_over is not None:
        say(console, f"\nonce the learning rate falls, {found.takes_over}:", "bold")
        lines(found.then, console)
    say(console, "")
    for value in (*found.sites, *found.betas):
        say(console, f"{value.name} {number(value.target)} {derivation(value)}")
    counts = found.params
    say(
        console,
        f"parameters: {counts['total']:,} in all, {counts['non_embedding']:,} non-embedding"
        + (f" ({counts['active']:,} active)" if counts["active"] != counts["non_embedding"] else "")
        + f", {counts['embedding']:,} embedding, {counts['readout']:,} readout",
    )
    say(console, f"training FLOPs: {found.flops_per_token:.4g} a token, {found.cost_flops:.4g} in all")
    for note in found.notes:
        say(console, f"note: {note}", "dim")


def lines(found: Sequence[Line], console: Console) -> None:
    """Each group: what it is and which ratios it has, then names with shapes beside values with rules."""
    names = max(len(part.pattern) for line in found for part in line.parts)
    shapes = max(len(stored(part)) for line in found for part in line.parts)
    for line in found:
        where = ", in the blocks" if line.in_block else ""
        ratios = ", ".join(f"{symbol} {ratio_text(ratio)}" for symbol, ratio in line.ratios.items())
        say(console, "")
        say(console, f"{line.role}, {line.family}{where}: {line.params:,} parameters"
                     f"{f'; {ratios}' if ratios else ''}", "bold")  # fmt: skip
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(min_width=names, overflow="fold")
        table.add_column(min_width=shapes, overflow="fold")
        table.add_column(min_width=12, overflow="fold")
        table.add_column(min_width=11, justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for part, value in zip_longest(line.parts, line.values):
            named = ("", "") if part is None else (part.pattern, stored(part))
            valued = ("", "", "") if value is None else (
                f"{NAMES.get(value.name, value.name)}", number(value.target), derivation(value)
            )  # fmt: skip
            table.add_row(*named, *valued)
        console.print(table, highlight=False, markup=False)


def stored(part: Part) -> str:
    """How many tensors, of what shape: `80 × [8192, 1024]`."""
    return f"{f'{part.tensors} × ' if part.tensors > 1 else ''}[{', '.join(map(str, part.stored))}]"


def number(value: float | None) -> str:
    return "—" if value is None else f"{value:.6g}"


def ratio_text(ratio: Fraction) -> str:
    return str(ratio) if ratio.denominator < 100 else f"{float(ratio):.5g}"


def derivation(value: Value) -> str:
    """`= base × rule`, or the words that stand in place of a rule."""
    if value.factor is None:
        return value.rule
    if value.name.startswith("beta"):
        return f"= 1 − {1 - (value.base or 0.0):.4g} × {value.rule.removeprefix('1−β × ')}"
    return f"= {number(value.base)} × {value.rule}"
