"""What runs are made of: the configuration and the corpora."""

from collections.abc import Iterator

from scalelab.data.cache import cache_dir
from scalelab.doctor.finding import Finding, broken, fine
from scalelab.errors import Refused

TOPIC = "project"


def configuration() -> Iterator[Finding]:
    """conf/ is there, and Hydra makes a run of it."""
    from scalelab.composing import as_mapping, composed_from, hydra_ready, refusing
    from scalelab.config import config_dir, spec_from_config

    again = "install scalelab again, with its conf/"
    try:
        folder = config_dir()
        with hydra_ready(), refusing():
            spec = spec_from_config(as_mapping(composed_from([])))
    except Refused as refused:
        yield broken(TOPIC, "configuration", str(refused), again)
        return
    yield fine(TOPIC, "configuration", f"{folder}: Hydra composes its run, {spec.fingerprint}")


def corpora() -> Iterator[Finding]:
    """Which can be read without a network."""
    held = cache_dir()
    enwik8, pysrc = held / "enwik8" / "enwik8", list((held / "pysrc").glob("*.bin"))
    here = ["embedded", "digits", *(["enwik8"] if enwik8.exists() else []), *(["pysrc"] if pysrc else [])]
    later = []
    if not enwik8.exists():
        later.append("enwik8 is fetched by pip when it is first used (36 MB)")
    if not pysrc:
        later.append("pysrc is made of this Python's own sources then")
    yield fine(TOPIC, "corpora", "; ".join([f"here: {', '.join(here)}", *later]))
