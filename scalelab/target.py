"""The target of a recipe: from `--target width=… tokens=…` to a full specification in the family of the proxies."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from scalelab.config import rounded_ffn
from scalelab.errors import Refused, unknown
from scalelab.readers.numbers import number
from scalelab.resolve import settings
from scalelab.shape import Shape
from scalelab.spec import RunSpec
from scalelab.values import whole

SIZE_KEYS = ("width", "depth", "heads", "head_dim", "kv_heads", "ffn", "experts", "top_k")
TARGET_KEYS = (*SIZE_KEYS, "tokens", "batch_tokens")


def named(given: Iterable[str], accepted: Collection[str]) -> Iterator[tuple[str, str]]:
    """NAME=TEXT pairs of a `--target`, between spaces or commas; `Refused` on another form or an unknown name."""
    for item in " ".join(given).replace(",", " ").split():
        name, equals, text = item.partition("=")
        if not equals:
            raise Refused(f"--target {item!r}: accepted is NAME=NUMBER, with {', '.join(accepted)}")
        if name not in accepted:
            raise unknown("target", name, accepted)
        yield name, text


def parse_target(given: Iterable[str]) -> dict[str, int]:
    """`["width=512 depth=4", "tokens=1T"]` as integers; `Refused` on an unknown key or what is no positive integer.

    `batch_tokens=choose` is as if it were left out.
    """
    found: dict[str, int] = {}
    for name, text in named(given, TARGET_KEYS):
        if (name, text) == ("batch_tokens", "choose"):
            continue
        if name in found:
            raise Refused(f"--target {name} is given twice: {found[name]:,} and {text}")
        exact = whole(text)
        if exact is None and (written := number(text)) is not None and written.is_integer():
            exact = int(written)
        if exact is None or exact < 1:
            choose = ", or choose" if name == "batch_tokens" else ""
            raise Refused(
                f"--target {name}={text}: accepted is a positive whole number, such as 512, 1e9 or 1T{choose}"
            )
        found[name] = exact
    if "width" not in found:
        raise Refused("--target has no width: give width=… and, where they differ from the proxies', depth=… tokens=…")
    return found


def parted(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Words of a command line that are of a target, as in `--target width=512 depth=4`, and the others.

    >>> parted(["depth=4", "optimizer.beta2=0.98"])
    (['depth=4'], ['optimizer.beta2=0.98'])
    """
    found: tuple[list[str], list[str]] = ([], [])
    for word in words:
        found[word.partition("=")[0] not in TARGET_KEYS].append(word)
    return found


def target_spec(proxy: RunSpec, target: Mapping[str, int], own: Collection[str] = ()) -> RunSpec:
    """The proxy's family at the target: head dimension, MLP ratio and query groups as in the proxies.

    `own` are scales of the horizon ("tokens", "batch_tokens") in which the target is its own base, as each proxy was.
    A warmup in tokens is rounded to whole steps of the batch, one at least.
    """
    shape, width = proxy.shape, target["width"]
    if "heads" in target:
        heads = target["heads"]
    elif "head_dim" in target or proxy.base == Shape.unit() or shape.head_dim == proxy.base.head_dim:
        head_dim = target.get("head_dim", shape.head_dim)
        if width % head_dim:
            near = round(width / head_dim) * head_dim or head_dim
            raise Refused(f"width={width} is not whole heads of head_dim={head_dim}: try width={near}")
        heads = width // head_dim
    else:
        heads = shape.heads
    kv_heads = target.get("kv_heads", heads * shape.kv_heads // shape.heads)
    batch, warmup = target.get("batch_tokens", proxy.horizon.batch_tokens), proxy.horizon.warmup_tokens
    horizon = replace(
        proxy.horizon,
        tokens=target.get("tokens", proxy.horizon.tokens),
        batch_tokens=batch,
        warmup_tokens=max(round(warmup / batch), 1) * batch if warmup else warmup,
    )
    new = replace(
        shape,
        width=width,
        depth=target.get("depth", shape.depth),
        heads=heads,
        kv_heads=max(1, kv_heads),
        ffn=target.get("ffn", _ffn(proxy, width)),
        experts=target.get("experts", shape.experts),
        top_k=target.get("top_k", shape.top_k),
    )
    return _at_the_proxys_horizon(proxy, replace(proxy, shape=new, horizon=horizon, seed=0), own)


def _at_the_proxys_horizon(proxy: RunSpec, spec: RunSpec, own: Collection[str]) -> RunSpec:
    """The same with the proxy's horizon for its base, where that was the run's own and the rules depend on it."""
    tokens, batch_tokens = (
        None if name in own else getattr(proxy.horizon, name) for name in ("tokens", "batch_tokens")
    )
    stated = replace(
        spec,
        base_tokens=proxy.base_tokens or tokens,
        base_batch_tokens=proxy.base_batch_tokens or batch_tokens,
    )
    return spec if settings(stated) == settings(spec) else stated


def _ffn(proxy: RunSpec, width: int) -> int:
    """The MLP's hidden size at another width: by the simplest ratio that explains proxy and base, rounding included."""
    sizes = [(shape.width, shape.ffn) for shape in (proxy.shape, proxy.base) if shape != Shape.unit()]
    exact = Fraction(proxy.shape.ffn, proxy.shape.width)
    for denominator in range(1, 9):
        ratio = exact.limit_denominator(denominator)
        if all(rounded_ffn(ratio, at) == ffn for at, ffn in sizes):
            return rounded_ffn(ratio, width)
    return rounded_ffn(exact, width)
