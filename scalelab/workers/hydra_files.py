"""What Hydra leaves in a job's folder below .hydra, as `run_job` writes it: config.yaml, overrides.yaml, hydra.yaml.

A file is put together from the texts of its parts, most of which are the same in every job: writing YAML costs more
than all else that a launcher does.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from omegaconf import OmegaConf

from scalelab.workers.composed import Composed, parsed, with_values

DEPTH = 3  # of keys, down to which a file is cut into parts


def hydra_files(job: Composed) -> dict[str, str]:
    """Text by path in the run's folder; nothing where Hydra was told to write nothing (hydra.output_subdir=null)."""
    subfolder = job.base.hydra["output_subdir"]
    if subfolder is None:
        return {}
    lines = list(job.overrides)
    naming = job.base.hydra["job"]["config"]["override_dirname"]
    dirname = get_overrides_dirname(overrides=[parsed(line) for line in lines], **naming)
    hydra = with_values(
        job.base.hydra,
        {
            "overrides.task": lines,
            "job.override_dirname": dirname,
            "job.id": str(job.number),
            "job.num": job.number,
            "runtime.output_dir": str(job.folder.path),
        },
    )
    config = with_values(job.base.written, job.put)
    return {
        f"{subfolder}/config.yaml": "".join(_text((key,), value) for key, value in config.items()),
        f"{subfolder}/hydra.yaml": _text(("hydra",), hydra),
        f"{subfolder}/overrides.yaml": _dumped(lines),
    }


def _text(path: tuple[str, ...], value: Any) -> str:
    """The lines of the value at these keys, those of the keys before its own left out."""
    if len(path) < DEPTH and isinstance(value, Mapping) and value:
        head = f"{'  ' * (len(path) - 1)}{path[-1]}:\n"
        return head + "".join(_text((*path, key), each) for key, each in value.items())
    return _text_of(path, _Value(value))


class _Value:
    """A value of a configuration as the key of a cache: equal where it reads the same."""

    def __init__(self, value: Any) -> None:
        self.value, self.written = value, repr(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.written == other.written

    def __hash__(self) -> int:
        return hash(self.written)


@lru_cache(maxsize=4096)
def _text_of(path: tuple[str, ...], value: _Value) -> str:
    whole: Any = value.value
    for key in reversed(path):
        whole = {key: whole}
    return "".join(_dumped(whole).splitlines(keepends=True)[len(path) - 1 :])


def _dumped(value: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(value))
