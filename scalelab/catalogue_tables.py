"""The generated tables about parametrizations: what there is, what it says, what is proved, where sources disagree.

And those about samplers, whose classes are what conf/hydra/sweeper/sampler/ says, and about exporters.
"""

from collections.abc import Iterable, Sequence

import yaml

from scalelab.compare import difference
from scalelab.config import config_dir
from scalelab.data import CORPORA, EXTERNAL
from scalelab.exporters import EXPORTERS, NOT_RIGHT
from scalelab.optimizers import OPTIMIZERS, Optimizer, optimizer_kind
from scalelab.parametrizations import PUBLISHED, TABLES, Family, Parametrization, Role, Site
from scalelab.parametrizations.everett import EVERETT
from scalelab.parametrizations.proofs import PROOFS
from scalelab.parametrizations.table import Rule
from scalelab.pruners import PRUNERS
from scalelab.scale import Power

Rows = tuple[Sequence[str], Iterable[Sequence[str]]]
SAMPLERS = {  # a file of conf/hydra/sweeper/sampler/ → what it is, source
    "carbs": ("cost-aware Pareto-region Bayesian search: the front of loss and cost, from a cheap start",
              "Fetterman et al. (arXiv:2306.08055)"),
    "law": ("fits the scaling law as it searches, for a target that is never run", "ours: `scalelab/samplers/law/`"),
    "gp": ("a Gaussian process with log expected improvement", "Ament et al. (arXiv:2310.20708)"),
    "tpe": ("tree-structured Parzen estimators, multivariate", "Bergstra et al. (2011); arXiv:2304.11127"),
    "cmaes": ("covariance matrix adaptation, one objective, needs `cmaes`", "Hansen (arXiv:1604.00772)"),
    "nsgaii": ("a genetic search of fronts", "Deb et al. (2002), doi:10.1109/4235.996017"),
    "qmc": ("scrambled Sobol points", "Sobol (1967), doi:10.1016/0041-5553(67)90144-9"),
    "random": ("independent draws", "Bergstra & Bengio (2012), JMLR 13"),
    "grid": ("every combination, in a random order; no intervals", "—"),
}  # fmt: skip
CORPUS = {  # a corpus → what it is
    "embedded": "6.6 MB of public-domain English in the package (Austen, Shakespeare, Milton): first steps and small"
    " proxies",
    "enwik8": "100 MB of Wikipedia, one verified fetch from the Python package index, cached in `$SCALELAB_CACHE`;"
    " 90/5/5",
    "pysrc": "the Python sources of your installation",
    "digits": "1,797 handwritten digits of 8×8 pixels, for the image models: `context=64`",
    "memmap": "your tokens: nanoGPT `.bin`, Megatron `.bin`/`.idx`, a text file; `data=memmap data.path=…`",
    EXTERNAL: "a command's own (`trainer=command`), named by `data.dataset`; scalelab never sees it",
}  # fmt: skip
STOPS = {  # a pruner → which run it stops
    "hyperband": "that is not among the best 1/η at a rung, η³, η², η times below the horizon (arXiv:1603.06560)",
    "idhb": "likewise; launch again with larger `tokens`, and the best go on from their checkpoints (arXiv:2302.00511)",
    "median": "that is worse than the median of those that ended, at a quarter and at half of the horizon",
    "curve": "that cannot become the best any more, but with a stated risk (split conformal; the first trials"
    " calibrate)",
    "wilcoxon": "between its `tuning_seeds`, where it is worse than the best setting on the same seeds",
}
SHOWN = {"AdamW": Family.ADAM, "SGD": Family.SGD, "Adafactor": Family.ADAFACTOR, "Muon": Family.MUON}


def parametrizations() -> Rows:
    """What there is."""
    return ("name", "title", "transfers in", "optimizers", "source"), [
        (
            f"`{name}`",
            table.title,
            ", ".join(table.transfers).replace("_", " ") or "—",
            _names(covered(table), len(OPTIMIZERS)),
            table.source,
        )
        for name, table in TABLES.items()
    ]


def rules() -> Rows:
    """What the tables say, those that are not told apart by an alignment."""
    columns = ("name", *(f"hidden lr, {name}" for name in SHOWN), "hidden eps, AdamW", "readout multiplier",
               "attention", "branch")  # fmt: skip
    return columns, [
        (
            f"`{name}`",
            *(_cell(table, Role.HIDDEN, family, "lr") for family in SHOWN.values()),
            _cell(table, Role.HIDDEN, Family.ADAM, "eps"),
            _cell(table, Role.READOUT, Family.ADAM, "multiplier"),
            str(table.sites[Site.ATTENTION]),
            str(table.sites[Site.RESIDUAL]),
        )
        for name, table in TABLES.items()
        if name not in EVERETT
    ]


def proofs() -> Rows:
    """What is proved of which table, by which test; the tables with the same proofs together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, found in PROOFS.items():
        for proof in found:
            tests = ", ".join(_link(test) for test in proof.tests)
            tests += " (`make slow`)" if proof.slow else ""
            row = (_names(map(str, proof.families), len(Family)), proof.claim, tests)
            alike.setdefault(row, []).append(f"`{name}`" if name in TABLES else name)
    return ("table", "optimizer families", "what is proved", "by"), [
        (", ".join(names), *row) for row, names in alike.items()
    ]


def agreement() -> Rows:
    """What published sources say of muP in width under AdamW, brought to the form of Table 8."""
    columns = ("source", "eps: embedding", "hidden", "gain, bias", "readout", "weight decay: hidden", "readout",
               "beside `mup`", "where it stands")  # fmt: skip
    rows = []
    for name, table in {"mup": TABLES["mup"], **PUBLISHED}.items():
        at = table_8(table)
        decay = [str(at[role].weight_decay) for role in (Role.HIDDEN, Role.READOUT)]
        eps = [str(at[role].eps) if role in at else "none there"
               for role in (Role.EMBEDDING, Role.HIDDEN, Role.GAIN, Role.READOUT)]  # fmt: skip
        verdict = difference(TABLES["mup"], table, optimizer="adamw").verdict.replace(" (adam)", "")
        rows.append((f"{table.title} (`{name}`)", *eps, *decay, verdict, table.source))
    return columns, rows


def optimizers() -> Rows:
    """The optimizers, with the family whose rules each follows."""
    return ("name", "title", "family", "reads, beside lr, weight decay and clip norm", "source"), [
        (f"`{name}`", kind.title, _family(kind), ", ".join(f"`{each}`" for each in kind.reads) or "—", kind.source)
        for name, kind in OPTIMIZERS.items()
    ]


def samplers() -> Rows:
    """What can search, and the Optuna sampler that each is."""
    folder = config_dir() / "hydra" / "sweeper" / "sampler"
    rows = []
    for name in sorted((file.stem for file in folder.glob("*.yaml")), key=list(SAMPLERS).index):
        settings = yaml.safe_load((folder / f"{name}.yaml").read_text())
        target: str = settings.get("sampler", settings)["_target_"]  # that of CARBS sets objectives beside itself
        rows.append((f"`{name}`", *SAMPLERS[name], f"`{target}`"))
    return ("`hydra/sweeper/sampler=`", "what it is", "source", "class"), rows


def corpora() -> Rows:
    """What can be trained on."""
    return ("corpus", "what it is"), [(f"`{name}`", CORPUS[name]) for name in (*CORPORA, EXTERNAL)]


def pruners() -> Rows:
    """What ends runs that will not win."""
    return ("pruner", "stops a run"), [(f"`{name}`", STOPS[name]) for name in PRUNERS]


def exporters() -> Rows:
    """What a recipe can be written for, and what becomes of its values there."""
    columns = ("`--to`", "writes", "expresses", "folds into the weights", "refuses", "checked against")
    return columns, [
        *((f"`{name}`", each.title, each.expresses, each.folds, each.refuses, each.checked)
          for name, each in EXPORTERS.items()),
        *((f"{name}", "nothing", "—", "—", reason, "—") for name, reason in NOT_RIGHT.items()),
    ]  # fmt: skip


def covered(table: Parametrization) -> list[str]:
    """The optimizers with which a table trains a language model: it has rules for its matrices and its tables."""
    found = []
    for name, kind in OPTIMIZERS.items():
        kinds = [kind, *([optimizer_kind(kind.then)] if kind.then else [])]
        needed = {(role, each.family_of(role)) for each in kinds for role in (Role.EMBEDDING, Role.HIDDEN)}
        if needed <= table.rules.keys():
            found.append(name)
    return found


def table_8(table: Parametrization) -> dict[Role, Rule]:
    """A table's rules for AdamW with the readout's multiplier as Table 8 of TP-V has it, and no other."""
    form = table.folded().shifted({Role.READOUT: Power(fan_in=-1)})
    return {role: rule for (role, family), rule in form.rules.items() if family is Family.ADAM}


def _cell(table: Parametrization, role: Role, family: Family, column: str) -> str:
    rule = table.rules.get((role, family))
    return "—" if rule is None else str(getattr(rule, column))


def _family(kind: Optimizer) -> str:
    return f"{kind.family}, then {optimizer_kind(kind.then).family}" if kind.then else str(kind.family)


def _names(names: Iterable[str], everything: int) -> str:
    found = list(names)
    return "all" if len(found) == everything else ", ".join(found) or "—"


def _link(test: str) -> str:
    file, _, function = test.partition("::")
    return f"[`{function}`]({file})"
