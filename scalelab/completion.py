"""What the shell's TAB offers: names, read when they are asked for and without anything that takes long to import."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import typer

# As `LAWS` and `PUBLISHED` of scalelab.laws.forms have them, which take seconds to import.
LAWS = (
    "kaplan", "kaplan_size", "kaplan_data", "kaplan_compute", "chinchilla", "gamma", "three_term", "gadre",
    "muennighoff", "muennighoff_repeats", "repeat_penalty", "saturating", "asymptote", "mu_scaling", "clark",
    "clark_bilinear", "sparsity", "parscale", "bnsl", "efficiency_leverage", "rl_size", "step_law_lr", "conditional_lr",
    "deepseek_lr", "bjorck_lr", "porian_lr", "scion_lr", "power_width", "power_depth", "step_law_batch",
    "deepseek_batch", "scion_batch", "power_lines_batch", "power_lines_critical_batch", "kaplan_critical_batch",
    "minicpm_batch", "power_lines_tau", "power_lines_decay", "wang_aitchison_decay", "trajectory_invariance",
)  # fmt: skip
PUBLISHED = (
    "kaplan", "kaplan_fixed_batch", "hoffmann", "hoffmann_exact", "epoch", "busbridge", "c4", "redpajama",
    "refinedweb", "infinite_compute", "mu_scaling", "s_base", "rl_r", "hash", "abnar", "stack", "pile", "ling",
    "step_law", "deepseek", "ling_moe", "bjorck", "porian", "scion", "mup", "sp", "completep", "residual_half",
    "power_lines", "minicpm",
)  # fmt: skip
Named = list[tuple[str, str]]  # a name, and what it is


def parametrizations(incomplete: str) -> Named:
    """Tables, by their titles."""
    from scalelab.parametrizations import TABLES

    return _titled({name: table.title for name, table in TABLES.items()}, incomplete)


def references(incomplete: str) -> Named:
    """Tables, and what published sources say of muP."""
    from scalelab.parametrizations import PUBLISHED as SAID

    return [*parametrizations(incomplete), *_titled({name: table.title for name, table in SAID.items()}, incomplete)]


def optimizers(incomplete: str) -> Named:
    """Optimizers, by their families."""
    from scalelab.optimizers import OPTIMIZERS

    return _titled({name: f"family {kind.family}" for name, kind in OPTIMIZERS.items()}, incomplete)


def exporters(incomplete: str) -> list[str]:
    """Frameworks that a recipe can be written for."""
    from scalelab.exporters import EXPORTERS

    return [name for name in EXPORTERS if name.startswith(incomplete)]


def laws(incomplete: str) -> list[str]:
    """Laws, also after a comma."""
    return _listed(LAWS, incomplete)


def published(incomplete: str) -> list[str]:
    """Published laws, also after a comma."""
    return _listed(PUBLISHED, incomplete)


def studies(incomplete: str) -> list[str]:
    """Studies in runs/, and folders that begin so."""
    near = [*Path("runs").glob("*/"), *Path().glob(f"{_quoted(incomplete)}*/")]
    return sorted({str(folder) for folder in near if str(folder).startswith(incomplete) and folder.name[0] != "."})


def overrides(context: typer.Context, incomplete: str) -> list[str]:
    """Keys of conf/train.yaml, and of those whose values have names the values; bash parts a word at its =."""
    before = [str(word) for word in context.params.get("overrides") or ()]
    if before[-1:] == ["="]:
        return [value for value in _values(before[-2]) if value.startswith(incomplete)] if before[1:] else []
    key, stated, value = incomplete.partition("=")
    if stated:
        head = value.rpartition(",")[0]
        return [f"{key}={head}{',' if head else ''}{name}" for name in _values(key)]
    plus = incomplete[: len(incomplete) - len(incomplete.lstrip("+"))]
    return [f"{plus}{name}=" for name in (("sweep",) if plus else _keys())]


def _values(key: str) -> Iterable[str]:
    from scalelab.config import config_dir
    from scalelab.keys import names_in

    key = key.lstrip("+")
    if key == "parametrization":
        from scalelab.parametrizations import TABLES

        return TABLES
    if key == "weight_decay_policy":
        from scalelab.parametrizations.decay import POLICIES

        return POLICIES
    group = config_dir() / key
    if not re.fullmatch(r"[\w/]+", key) or not group.is_dir():
        return ()
    return names_in(group)


def _keys() -> list[str]:
    from scalelab.config import config_dir

    folder = config_dir()
    stated = re.findall(r"^(\w+):(?! *$)", (folder / "train.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    groups = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in ("hydra", "sweep"))
    return [*(name for name in stated if name != "defaults"), *groups, "hydra/launcher", "hydra/sweeper"]


def _titled(titles: Mapping[str, str], incomplete: str) -> Named:
    return [(name, title) for name, title in titles.items() if name.startswith(incomplete)]


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    head, comma, last = incomplete.rpartition(",")
    given = head.split(",")
    return [f"{head}{comma}{name}" for name in names if name.startswith(last) and name not in given]


def _quoted(text: str) -> str:
    """A text that a pattern of files matches as it stands."""
    return re.sub(r"([*?[])", r"[\1]", text)
