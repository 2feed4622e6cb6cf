"""Writes the data recipes of this study, a UTF-8 text each, and the validation text that is common to all.

    python sweeps/data_recipes/recipes.py FOLDER [embedded|enwik8]

All are made from one corpus of English (the embedded texts, or enwik8) and the Python sources of the installation
(data=pysrc), and are the same on every machine as far as those are. Repeated texts are short files: a run reads its
file again and again, in a new order each time.
"""

import random
import string
import sys
from collections.abc import Callable
from pathlib import Path

from scalelab.data import load

BLOCK = 1024  # bytes that stay together where texts are mixed or thinned
LEAST_LINE = 40  # characters; what the filter of short lines keeps
SEED = 0


def recipes(english: str, code: str) -> dict[str, str]:
    """Name → text."""
    rng = random.Random(SEED)
    half = len(english) // 2
    return {
        "english": english,
        "first_half": english[:half],
        "second_half": english[half:],
        "python_20": mixed(english, code, 0.2, rng),
        "python_50": mixed(english, code, 0.5, rng),
        "noise_02": noisy(english, 0.02, rng),
        "noise_10": noisy(english, 0.10, rng),
        "lower": english.lower(),
        "long_lines": by_line(english, lambda line: line if len(line) >= LEAST_LINE else None),
        "words": by_line(english, lambda line: " ".join(rng.sample(line.split(" "), len(line.split(" "))))),
        "repeated_64k": thinned(english, 64 * BLOCK),
        "repeated_16k": thinned(english, 16 * BLOCK),
    }


def mixed(english: str, code: str, share: float, rng: random.Random) -> str:
    """Blocks of both in a random order, `share` of them code."""
    prose, source = blocks(english), blocks(code)
    count = min(len(prose), int(len(source) / share))
    taken = prose[: count - round(share * count)] + rng.sample(source, round(share * count))
    return "".join(rng.sample(taken, len(taken)))


def noisy(text: str, share: float, rng: random.Random) -> str:
    """`share` of the characters replaced by letters, digits and signs drawn at random."""
    marks = string.ascii_letters + string.digits + string.punctuation
    return "".join(rng.choice(marks) if rng.random() < share else character for character in text)


def thinned(text: str, size: int) -> str:
    """About `size` characters of it, in blocks from all over."""
    every = blocks(text)
    return "".join(every[:: max(1, len(every) * BLOCK // size)])


def by_line(text: str, change: Callable[[str], str | None]) -> str:
    """Each line changed; without those that become None."""
    changed = (change(line) for line in text.split("\n"))
    return "\n".join(line for line in changed if line is not None)


def blocks(text: str) -> list[str]:
    return [text[at : at + BLOCK] for at in range(0, len(text), BLOCK)]


def main(folder: Path, corpus: str) -> None:
    english, code = load(corpus), load("pysrc")
    folder.mkdir(parents=True, exist_ok=True)
    prose = bytes(english.train).decode(errors="ignore")
    source = thinned(bytes(code.train).decode(errors="ignore"), len(prose))
    for name, text in recipes(prose, source).items():
        write(folder / f"{name}.txt", text)
    write(folder / "validation.txt", bytes(english.val).decode(errors="ignore"))


def write(path: Path, text: str) -> None:
    """Where the same is there already it is left, so that what is known of the file stays known."""
    content = text.encode()
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "embedded")
