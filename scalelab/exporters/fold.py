"""Forward multipliers put into the weights, for a framework that has no place for them: the same training, exactly.

A matrix used as a·W is the matrix V = a·W: it starts a times as large and its gradient is 1/a as large. A step of
degree d in the gradient and p in the parameter (`Family.degree`) moves V as it moved a·W when lr goes by a^(1+d−p), eps
by a^(−e), and weight decay so that lr·weight_decay stays. (Tensor Programs V, arXiv:2203.03466 Lemma J.1.) What it does
change is the norm of the whole gradient, so clipping by it is another clipping: `notes` says so.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import replace

from scalelab.errors import Refused
from scalelab.exporters.handed import Handed, Handoff
from scalelab.parametrizations.table import Role

PLACES = ("tensors", "embedding", "residual", "attention")
TABLE, LAST_GAIN = "embedding.weight", "norm.gain"


def folded(
    given: Handoff, *, keep: Collection[str] = (), attention: float | None = None, both: bool = False
) -> Handoff:
    """The same run with its multipliers at 1, but for those of the places to `keep`, of `PLACES`.

    Args:
        given: the run.
        keep: "tensors" are the tensors' own multipliers (the readout's), the others are fields of `Handoff`.
        attention: the softmax scale that the framework has; 1/√head_dim if left out.
        both: whether queries and keys take half of its factor each (√ of it), for a framework that treats them alike;
            queries take all of it otherwise.

    Raises:
        Refused: where no equivalent exists: a table that is read in two places by different factors, before a last
            norm without a gain; a softmax scale between normed queries and keys without gains.
    """
    run = given
    if "embedding" not in keep:
        run = _embedding(run)
    if "tensors" not in keep:
        run = _tensors(run)
    if "residual" not in keep:
        run = _residual(run)
    if "attention" not in keep:
        wanted = 1 / math.sqrt(run.spec.shape.head_dim) if attention is None else attention
        run = _attention(run, wanted, both=both)
    return run


def times(each: Handed, a: float) -> Handed:
    """The tensor `a` times as large, its multiplier 1/a times."""
    lr = a ** (1 + each.family.degree - each.family.parameter_degree)
    return replace(
        each,
        init_mean=each.init_mean * a,
        init_std=each.init_std * a,
        multiplier=each.multiplier / a,
        lr=each.lr * lr,
        weight_decay=each.weight_decay / lr,
        eps=None if each.eps is None else each.eps * a ** -(each.family.eps_degree or 0),
    )


def _grown(run: Handoff, a: float, which: Callable[[Handed], bool], what: str) -> Handoff:
    """Some tensors as large as they act with a factor `a` behind them; their own multiplier stays."""
    if math.isclose(a, 1.0, rel_tol=1e-12):
        return run
    tensors = tuple(replace(times(t, a), multiplier=t.multiplier) if which(t) else t for t in run.tensors)
    return replace(run, tensors=tensors, folded=(*run.folded, f"{what} ×{a:.6g}"))


def _tied(run: Handoff) -> Handed | None:
    return next((each for each in run.tensors if each.role is Role.TIED), None)


def _embedding(run: Handoff) -> Handoff:
    if math.isclose(run.embedding, 1.0, rel_tol=1e-12):
        return run
    tied = _tied(run)
    if tied is None:
        grown = _grown(run, run.embedding, lambda each: each.name == TABLE, "embedding multiplier")
        return replace(grown, embedding=1.0)
    # Where it reads out, a table that has grown is multiplied by as much less.
    tensors = tuple(times(each, run.embedding) if each is tied else each for each in run.tensors)
    said = f"embedding multiplier ×{run.embedding:.6g}"
    return replace(run, tensors=tensors, embedding=1.0, folded=(*run.folded, said))


def _tensors(run: Handoff) -> Handoff:
    tied = _tied(run)
    if tied is not None and not math.isclose(tied.multiplier, 1.0, rel_tol=1e-12):
        if LAST_GAIN not in run.by_name:
            raise Refused(
                f"the readout is also the embedding, and multiplied by {tied.multiplier:g} where it reads out: without"
                " a gain of the last norm nothing can hold that factor; untie them (model.tied_head=false), sweep with"
                " model.norm_gains=vector, or hand over to a framework with a multiplier for logits"
            )
        run = _grown(run, tied.multiplier, lambda each: each.name == LAST_GAIN, "logits multiplier")
        run = replace(run, tensors=tuple(replace(t, multiplier=1.0) if t.name == TABLE else t for t in run.tensors))
    moved = [each.multiplier for each in run.tensors if not math.isclose(each.multiplier, 1.0, rel_tol=1e-12)]
    said = (f"multipliers of {len(moved)} tensors" if len(moved) > 1 else "a tensor's multiplier",) if moved else ()
    tensors = tuple(replace(times(each, each.multiplier), multiplier=1.0) for each in run.tensors)
    return replace(run, tensors=tensors, folded=(*run.folded, *said))


def _residual(run: Handoff) -> Handoff:
    writers = {each.name.removesuffix(".weight") for each in run.tensors if each.tensor.writes_residual}

    def writes(each: Handed) -> bool:
        return each.name.removesuffix(".weight").removesuffix(".bias") in writers

    return replace(_grown(run, run.residual, writes, "residual multiplier"), residual=1.0)


def _attention(run: Handoff, wanted: float, *, both: bool) -> Handoff:
    ratio = run.attention / wanted
    if math.isclose(ratio, 1.0, rel_tol=1e-12):
        return replace(run, attention=wanted)
    if not run.spec.architecture.qk_norm:
        holders: tuple[str, ...] = ("query.weight", "query.bias", "key.weight", "key.bias")
    elif run.spec.architecture.norm_gains != "none":
        holders = ("query_norm.gain", "key_norm.gain")
    else:
        raise Refused(
            f"softmax scale {run.attention:.6g} where the framework has {wanted:.6g}, between normed queries and keys"
            " without gains: nothing can hold the factor; sweep with model.norm_gains=vector, or one head_dim"
        )
    endings = tuple(f".attention.{holder}" for holder in holders if both or holder.startswith("query"))
    a, half = (math.sqrt(ratio), ", half of it in the keys") if both else (ratio, "")
    grown = _grown(run, a, lambda each: each.name.endswith(endings), f"softmax scale{half}")
    return replace(grown, attention=wanted)


def notes(run: Handoff) -> tuple[str, ...]:
    """What folding changes after all: nothing, unless gradients are clipped by their norm."""
    if not run.folded or run.clip_norm is None:
        return ()
    return (
        f"gradients are clipped at norm {run.clip_norm:g}, and folding ({'; '.join(run.folded)}) changes that norm:"
        " with clipping active the run is not exactly the proxies'; watch how often it clips, or sweep with"
        " optimizer.clip_norm=null",
    )
