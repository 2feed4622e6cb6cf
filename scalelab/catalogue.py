"""What is available, generated from the registries: the tables of the README, and nothing typed in twice.

`python -m scalelab.catalogue README.md` rewrites what stands between `<!-- NAME -->` and `<!-- /NAME -->`; what is
measured it takes from analysis/ and benchmarks/ beside the page.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from scalelab import catalogue_tables
from scalelab.catalogue_measured import measured
from scalelab.console import markdown
from scalelab.data import CORPORA, EXTERNAL
from scalelab.hparams import SCHEDULES
from scalelab.laws import LAWS, PUBLISHED, Law, Published
from scalelab.laws.optima.regression import TWO_STAGE
from scalelab.models import MODELS
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import POLICIES
from scalelab.spec import DTYPES
from scalelab.trackers import TRACKERS

TABLES: dict[str, Callable[[], catalogue_tables.Rows]] = {
    "parametrizations": catalogue_tables.parametrizations,
    "rules": catalogue_tables.rules,
    "agreement": catalogue_tables.agreement,
    "proofs": catalogue_tables.proofs,
    "optimizers": catalogue_tables.optimizers,
    "samplers": catalogue_tables.samplers,
    "exporters": catalogue_tables.exporters,
    "corpora": catalogue_tables.corpora,
    "pruners": catalogue_tables.pruners,
}


def blocks(root: Path) -> dict[str, str]:
    """Each generated part of the README of the checkout `root`, by its name."""
    return {
        **{name: markdown(*rows) for name, rows in measured(root).items()},
        **{name: markdown(*rows()) for name, rows in TABLES.items()},
        "policies": markdown(
            ("`weight_decay_policy=`", "what it holds", "source"),
            ((f"`{name}`", policy.title, policy.source) for name, policy in POLICIES.items()),
        ),
        "models": markdown(("`model=`", "what it is"), ((f"`{name}`", model.title) for name, model in MODELS.items())),
        "laws": markdown(
            ("law", "of", "form", "source"),
            ((f"`{name}`", law.output.replace("_", " "), f"`{law.form}`", law.source) for name, law in _laws().items()),
        ),
        "published": markdown(
            ("name", "coefficients", "where", "how it was checked"),
            ((f"`{name}`", _coefficients(entry), entry.source, entry.checked) for name, entry in PUBLISHED.items()),
        ),
        "choices": markdown(
            ("key", "accepted"),
            (
                ("`data=`", _names([*CORPORA, EXTERNAL])),
                ("`model=`", _names(MODELS)),
                ("`optimizer=`", _names(OPTIMIZERS)),
                ("`schedule=`", _names(SCHEDULES)),
                ("`horizon=`", "`free`, `branch` (many horizons from one trunk)"),
                ("`dtype=`", _names(DTYPES)),
                ("`parallel=`", "`none`, `ddp`, `fsdp` (one run in several processes)"),
                (
                    "`trainer=`",
                    "`builtin`, `command` (any command line), and as presets of it `plain`, `torchtitan`, `megatron`",
                ),
                ("`tracker=`", _names(TRACKERS)),
                (
                    "`hydra/launcher=`",
                    "`fused` (many runs at once), `slurm`, `ray`, `basic`, `joblib`, or any Hydra launcher you install",
                ),
            ),
        ),
    }


def _laws() -> dict[str, Law]:
    """Laws fitted to runs or to each scale's best, then those of two stages."""
    return {**LAWS, **{name: law for name, (law, _) in TWO_STAGE.items()}}


def _coefficients(entry: Published) -> str:
    numbers = {name: value for name, value in entry.parameters.items() if not math.isnan(value)}
    return ", ".join(f"{name} {value:.5g}" for name, value in numbers.items())


def _names(registry: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in registry)


def rewritten(text: str, root: Path) -> str:
    """A page with every generated part replaced by what registries and measurements say now."""
    for name, block in blocks(root).items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        text = re.sub(f"{start}.*?{end}", (start + block + "\n" + end).replace("\\", r"\\"), text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewritten(page.read_text(), page.resolve().parent))
