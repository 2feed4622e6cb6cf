"""Every other value of a recipe with where it comes from: the table, or the proxies, who all had it."""

from collections.abc import Iterator

from scalelab.parametrizations import table
from scalelab.recipe import Value
from scalelab.resolve import betas, settings
from scalelab.scale import ONE
from scalelab.spec import RunSpec

HAD = "as every proxy had it; not swept, so how far from its best nobody knows"
MULTIPLIERS = ("embedding", "attention", "residual", "logits")


def trained(spec: RunSpec, asked: int | None) -> Iterator[Value]:
    """The tokens of a run that were asked for, whole steps of its batch."""
    if asked is not None:
        tokens = spec.horizon.tokens
        whole = "" if tokens == asked else f"; of {asked:,} these are whole steps"
        yield Value(name="tokens", value=float(tokens), unit="tokens", source="asked", rests_on=f"as you said{whole}")


def settled(spec: RunSpec, proxy: RunSpec) -> Iterator[Value]:
    """Warmup, schedule, betas, eps, clipping, init and multipliers of a target; `proxy` says what warmup was."""
    horizon, hparams = spec.horizon, spec.hparams
    warmup = horizon.warmup_steps
    kept, had = "a share" if horizon.warmup_tokens is None else "a number of tokens", proxy.horizon.warmup_tokens
    whole = "" if had == horizon.warmup_tokens else f"; of their {had:,} tokens these are whole steps, one at least"
    yield Value(
        name="warmup", value=float(warmup), unit="steps", source="proxies",
        rests_on=f"{warmup / horizon.steps:.3g} of the run; {kept} that every proxy had{whole}",
    )  # fmt: skip
    yield Value(name="schedule", value=horizon.schedule, source="proxies", rests_on=HAD)
    yield Value(name="final_lr_ratio", value=horizon.final_lr_ratio, source="proxies", rests_on=HAD)
    rules = table(spec.parametrization)
    if "momentum" in spec.kind.reads:
        yield Value(name="momentum", value=hparams.momentum, source="proxies", rests_on=HAD)
    if "beta2" in spec.kind.reads or spec.kind.hands_over:
        moved = rules.one_minus_beta != ONE
        why = f"the proxies', 1−β moved by the table of {rules.name} with batch and tokens" if moved else HAD
        for name, value in zip(("beta1", "beta2"), betas(spec), strict=True):
            yield Value(name=name, value=value, source="theory" if moved else "proxies", rests_on=why)
    resolved = settings(spec)
    eps = sorted({s.eps for s in resolved if s.eps is not None})
    if eps:
        spread = f"{eps[0]:.3g} to {eps[-1]:.3g}, a group each" if len(eps) > 1 else "the same for every tensor"
        yield Value(
            name="eps", value=hparams.eps, source="theory",
            rests_on=f"the base's, moved by the table of {rules.name}: {spread}",
        )  # fmt: skip
    yield Value(name="clip_norm", value=hparams.clip_norm, source="proxies", rests_on=HAD)
    stds = sorted({s.init_std for s in resolved if s.init_std > 0})
    yield Value(
        name="init", value=hparams.init_gain, unit="gain", source="theory",
        rests_on=f"the base's gain; standard deviations {stds[0]:.3g} to {stds[-1]:.3g} by the table of {rules.name}",
    )  # fmt: skip
    for name in MULTIPLIERS:
        yield Value(
            name=f"{name}_multiplier", value=getattr(hparams, f"{name}_multiplier"), source="proxies",
            rests_on=f"{HAD}; the table's own factor stands with it in the groups and sites",
        )  # fmt: skip
