"""Samplers that propose the runs of a study, each an Optuna sampler for studies that minimise (loss, cost)."""

from importlib import import_module

from scalelab.errors import unknown

SAMPLERS: dict[str, str] = {
    "carbs": "scalelab.samplers.carbs.sampler:CarbsSampler",
    "law": "scalelab.samplers.law.sampler:LawSampler",
}


def sampler_class(name: str) -> type:
    """The class of a sampler by its name; Optuna is imported only now.

    Raises:
        Refused: on a name that is none of SAMPLERS.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    module, _, found = SAMPLERS[name].partition(":")
    cls: type = getattr(import_module(module), found)
    return cls
