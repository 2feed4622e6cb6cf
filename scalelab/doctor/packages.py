"""Python and its packages: what scalelab asks for, and what is known to go wrong beside it."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from scalelab.doctor.finding import Finding, broken, fine, warning

TOPIC = "packages"
OLDEST = (3, 11)
WRONG = {
    "carbs": "the package of that name is a library for swarms, not the tuner: `pip uninstall carbs`; scalelab has its"
    " own (hydra/sweeper/sampler=carbs)",
    "hydra-optuna-sweeper": "it asks for optuna<3 and offers a hydra/sweeper=optuna of its own: `pip uninstall"
    " hydra-optuna-sweeper`, then install scalelab again",
    "hydra-ray-launcher": "it takes cloudpickle back below 3 and offers a hydra/launcher=ray of its own: `pip uninstall"
    " hydra-ray-launcher`",
}


def installed() -> dict[str, str]:
    """Versions of all distributions, by their normalised names."""
    return {_plain(each.metadata["Name"]): each.version for each in metadata.distributions() if each.metadata["Name"]}


def required() -> list[Requirement]:
    """What scalelab's own metadata say that it needs, without extras; nothing where it is not installed."""
    try:
        asked = [Requirement(text) for text in metadata.requires("scalelab") or ()]
    except metadata.PackageNotFoundError:
        return []
    return [each for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]


def of_python(version: tuple[int, int, int], executable: str) -> Finding:
    """The interpreter."""
    seen = f"{'.'.join(map(str, version))}, {executable}"
    if version[:2] < OLDEST:
        return broken("python", "python", seen, f"scalelab needs {'.'.join(map(str, OLDEST))} or newer")
    return fine("python", "python", seen)


def of_packages(versions: Mapping[str, str], asked: Iterable[Requirement]) -> Iterator[Finding]:
    """What is needed, by version; then what should not be there."""
    asked = list(asked)
    here = {each.name: versions.get(_plain(each.name)) for each in asked}
    for each in asked:
        found = here[each.name]
        if found is None or not each.specifier.contains(found, prereleases=True):
            seen = f"{found or 'not installed'}, needed is {each.specifier or 'any'}"
            yield broken(TOPIC, each.name, seen, "pip install -c constraints.txt .")
    shown = ", ".join(f"{name} {here[name]}" for name in ("hydra-core", "optuna", "numpy", "scipy") if here.get(name))
    yield fine(TOPIC, "needed", f"{sum(found is not None for found in here.values())} of {len(here)} here: {shown}")
    for name, why in WRONG.items():
        if name in versions:
            yield warning(TOPIC, name, f"{versions[name]} is installed", why)


def of_scalelab(versions: Mapping[str, str], package: Path) -> Finding:
    """scalelab itself, and the commit of a checkout."""
    found = commit(package.parent)
    seen = f"{versions.get('scalelab', 'not installed')}, {package}" + (f", commit {found}" if found else "")
    if "scalelab" not in versions:
        return warning("python", "scalelab", seen, "pip install -c constraints.txt -e . , which brings what it needs")
    return fine("python", "scalelab", seen)


def commit(checkout: Path) -> str | None:
    """The commit that is checked out, as git's files have it; None where there is none."""
    git = checkout / ".git"
    if git.is_file():  # of a worktree
        git = checkout / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head[:12]
        name = head.removeprefix("ref: ")
        common = git / "commondir"
        shared = git / common.read_text(encoding="utf-8").strip() if common.exists() else git
        if (shared / name).exists():
            return (shared / name).read_text(encoding="utf-8").strip()[:12]
        packed = (shared / "packed-refs").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(name)}$", packed, flags=re.MULTILINE)
    return None if found is None else found[1][:12]


def python_findings(package: Path) -> list[Finding]:
    """All of these, of this interpreter."""
    versions = installed()
    version = sys.version_info
    return [
        of_python((version.major, version.minor, version.micro), sys.executable),
        of_scalelab(versions, package),
        *of_packages(versions, required()),
    ]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
