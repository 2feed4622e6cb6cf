"""Samplers that propose the runs of a study, each an Optuna sampler for studies that minimise (loss, cost)."""

from scalelab.named import class_named

SAMPLERS: dict[str, str] = {
    "carbs": "scalelab.samplers.carbs.sampler:CarbsSampler",
    "law": "scalelab.samplers.law.sampler:LawSampler",
}


def sampler_class(name: str) -> type:
    """The class of a sampler by its name; Optuna is imported only now.

    Raises:
        Refused: on a name that is none of SAMPLERS.
    """
    return class_named("sampler", name, SAMPLERS)
