"""A recipe in the files that training frameworks read. Each exporter expresses, folds, or refuses; none drops a field.

    Recipe → handed (every tensor's values) → fold (what the framework has no place for) → one file a framework

To add one: a file here with an `Exporter`, and its line in `EXPORTERS`. test_conformance.py, test_fields.py and
test_hostile.py in tests/handoff then hold it to what all owe; a test of its own holds it against the framework: values
read back, and 20 steps in float64.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.exporters import hf, megatron, nanogpt_completep, olmo_core, param_groups, torchtitan
from scalelab.exporters.exporter import Export, Exporter
from scalelab.exporters.handed import Handoff, handoff
from scalelab.files import write_atomically
from scalelab.recipe import Recipe

EXPORTERS: dict[str, Exporter] = {
    "param_groups": param_groups.EXPORTER,
    "torchtitan": torchtitan.EXPORTER,
    "megatron": megatron.EXPORTER,
    "hf": hf.EXPORTER,
    "olmo_core": olmo_core.EXPORTER,
    "nanogpt_completep": nanogpt_completep.EXPORTER,
}

# Frameworks whose own rules would make a recipe wrong, with the reason.
NOT_RIGHT: dict[str, str] = {
    "nanotron": "its muP is spectral: stds and learning rates by fan_out/fan_in under Adam, and its README tells of"
    " losses that blew up at 1B and 8B; a recipe of this table would train another one",
    "axolotl": "its groups match substrings, put embeddings and lm_head into one group without decay, and have neither"
    " weight decay nor eps of their own",
    "lingua": "it has one parameter group",
    "llm-foundry": "its MPT starts every matrix by one rule (init_config), where a recipe has a standard deviation for"
    " each; and to its decoupled_adamw weight decay means what is lr·weight_decay elsewhere",
    "levanter": "it has one learning rate and one eps for all parameters",
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written for a framework."""

    name: str
    files: list[Path]
    notes: tuple[str, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """In JSON types."""
        return {"name": self.name, "files": [str(file) for file in self.files], "notes": list(self.notes)}


def exporter_of(name: str) -> Exporter:
    """The registered exporter of that name; `Refused` names the others, or why there is none."""
    if name in NOT_RIGHT:
        raise Refused(f"no export to {name}: {NOT_RIGHT[name]}; accepted are {', '.join(EXPORTERS)}")
    if name not in EXPORTERS:
        raise unknown("framework", name, EXPORTERS)
    return EXPORTERS[name]


def made(recipe: Recipe, name: str, given: Mapping[str, str]) -> Export:
    """A recipe in a framework's words.

    Raises:
        Refused: an unknown framework or option, one that cannot be right, a recipe that it cannot express.
    """
    exporter = exporter_of(name)
    for option in given:
        if option not in exporter.options:
            raise unknown(f"option of {name}", option, exporter.options)
        if not given[option].isprintable():
            raise Refused(f"{option}={given[option]!r}: accepted is text in one line, without control characters")
    defaults = {option: default for option, (default, _) in exporter.options.items()}
    return exporter.write(handoff(recipe), {**defaults, **given})


def export_all(recipe: Recipe, names: Sequence[str], folder: Path, given: Mapping[str, str]) -> list[Exported]:
    """Write a recipe for several frameworks, or for none of them where one refuses. Raises as `made`."""
    return write_all(made_all(recipe, names, given), folder)


def made_all(recipe: Recipe, names: Sequence[str], given: Mapping[str, str]) -> dict[str, Export]:
    """A recipe in the words of several frameworks; an option goes to each of them that has it. Raises as `made`."""
    known = {option for name in names for option in exporter_of(name).options}
    for option in given:
        if option not in known:
            raise unknown(f"option of {', '.join(names)}", option, known)
    return {name: made(recipe, name, {o: v for o, v in given.items() if o in EXPORTERS[name].options})
            for name in names}  # fmt: skip


def write_all(exports: Mapping[str, Export], folder: Path) -> list[Exported]:
    """Write each into a folder of its name: files of two are never mixed."""
    return [_written(name, each, folder / name) for name, each in exports.items()]


def export(recipe: Recipe, name: str, folder: Path, given: Mapping[str, str]) -> tuple[list[Path], tuple[str, ...]]:
    """Write a recipe for a framework into `folder`; the files, and the notes that go with them. Raises as `made`."""
    exported = _written(name, made(recipe, name, given), folder)
    return exported.files, exported.notes


def _written(name: str, each: Export, folder: Path) -> Exported:
    for file, text in each.files.items():
        write_atomically(folder / file, text)
    return Exported(name=name, files=[folder / file for file in each.files], notes=each.notes)


def options(given: Iterable[str]) -> dict[str, str]:
    """OPTION=VALUE texts by option; `Refused` on another form, or one that is given twice."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise Refused(f"--set {text}: accepted is OPTION=VALUE, with the options that `export --list` names")
        if name in found:
            raise Refused(f"--set {name} is given twice: {found[name]} and {value}")
        found[name] = value
    return found


def listing() -> dict[str, Any]:
    """Every framework with what becomes of a recipe there, and those that cannot be right; in JSON types."""
    said = ("title", "expresses", "folds", "refuses", "checked")
    return {
        "frameworks": {
            name: {**{field: getattr(each, field) for field in said},
                   "options": {o: {"default": default, "what": what} for o, (default, what) in each.options.items()}}
            for name, each in EXPORTERS.items()
        },
        "not_right": dict(NOT_RIGHT),
    }  # fmt: skip


__all__ = [
    "EXPORTERS", "NOT_RIGHT", "Export", "Exported", "Exporter", "Handoff", "export", "export_all", "exporter_of",
    "handoff", "listing", "made", "made_all", "options", "write_all",
]  # fmt: skip
