"""A recipe in the files that training frameworks read. Each exporter expresses, folds, or refuses; none drops a field.

    Recipe → handed (every tensor's values) → fold (what the framework has no place for) → one file a framework

To add one: a file here and a line in `EXPORTERS`.
"""

from collections.abc import Mapping
from pathlib import Path

from scalelab.errors import Refused, unknown
from scalelab.exporters.exporter import Export, Exporter
from scalelab.exporters.handed import Handoff, handoff
from scalelab.files import write_atomically
from scalelab.recipe import Recipe

EXPORTERS: dict[str, Exporter] = {}

# Frameworks whose own rules would make a recipe wrong, with the reason.
NOT_RIGHT: dict[str, str] = {
    "nanotron": "its muP is spectral: stds and learning rates by fan_out/fan_in under Adam, and its README tells of"
    " losses that blew up at 1B and 8B; a recipe of this table would train another one",
    "axolotl": "its groups match substrings, put embeddings and lm_head into one group without decay, and have neither"
    " weight decay nor eps of their own",
    "lingua": "it has one parameter group",
    "llm-foundry": "its decoupled_adamw decays by the weight decay alone, whatever the learning rate of a group: decay"
    " that follows each group's learning rate cannot be said",
    "levanter": "it has one learning rate and one eps for all parameters",
}


def export(recipe: Recipe, name: str, folder: Path, given: Mapping[str, str]) -> tuple[list[Path], tuple[str, ...]]:
    """Write a recipe for a framework below `folder`; the files, and the notes that go with them.

    Raises:
        Refused: an unknown framework or option, one that cannot be right, a recipe that it cannot express.
    """
    if name in NOT_RIGHT:
        raise Refused(f"no export to {name}: {NOT_RIGHT[name]}; accepted are {', '.join(EXPORTERS)}")
    if name not in EXPORTERS:
        raise unknown("framework", name, EXPORTERS)
    exporter = EXPORTERS[name]
    for option in given:
        if option not in exporter.options:
            raise unknown(f"option of {name}", option, exporter.options)
    options = {option: default for option, (default, _) in exporter.options.items()} | dict(given)
    made = exporter.write(handoff(recipe), options)
    written = []
    for file, text in made.files.items():
        write_atomically(folder / file, text)
        written.append(folder / file)
    return written, made.notes


__all__ = ["EXPORTERS", "NOT_RIGHT", "Export", "Exporter", "Handoff", "export", "handoff"]
