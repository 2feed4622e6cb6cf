"""laws.html: one file with nothing outside it, every text escaped, the numbers of the laws, the warnings first."""

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelab import report
from scalelab.laws import Laws, study
from scalelab.laws.report_card import report_card
from tests.helpers import squeezed
from tests.laws.sweeps import sweep
from tests.laws.test_draw import ladder

DATA = "<script>alert(1)</script> & more"


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    table = sweep(np.random.default_rng(0), seeds=2, widths=(128, 256, 512), data=DATA)
    return table[~((table["width"] == 128) & (table["lr"] > 2**-7.5))].reset_index(drop=True)


@pytest.fixture(scope="module")
def laws(runs: pd.DataFrame) -> Laws:
    conventions = {"loss": "nats <a token>", "params": "without embeddings"}
    return study(runs, draws=100, seed=3, sources=["my <runs>.csv"], conventions=conventions)


@pytest.fixture(scope="module")
def folder(laws: Laws, runs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("laws")
    report.write_laws(laws, runs, found, figures=True)
    return found


def words(page: str) -> str:
    """What a reader sees."""
    shown = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return squeezed(html.unescape(re.sub(r"<[^>]*>", " ", shown)))


def test_the_page_needs_no_other_file(folder: Path) -> None:
    page = (folder / "laws.html").read_text()
    assert not re.search(r"<(link|iframe|object|image)\b", page) and re.findall(r"<script[^>]*>", page) == ["<script>"]
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    assert sources and all(source.startswith(("#", "data:image/png;base64,")) for source in sources)
    assert "@import" not in page and all(found[4] == "#" for found in re.findall(r"url\(.", page))
    drawn = page.count('class="drawn"')
    assert drawn == len(list(folder.glob("*.png"))) == len(list(folder.glob("*.svg"))) == 4


def test_texts_of_others_are_escaped(folder: Path) -> None:
    page = (folder / "laws.html").read_text()
    assert DATA not in page and html.escape(DATA, quote=False) in page
    assert "nats &lt;a token&gt;" in page and "my &lt;runs&gt;.csv" in page


def test_the_page_says_what_is_best_how_it_moves_and_what_was_lost(folder: Path, laws: Laws) -> None:
    plain = words((folder / "laws.html").read_text())
    (group,) = laws.groups
    assert group.joint is not None and group.validation is not None
    scale = {name: high for name, (_, high) in group.joint.domain.items() if name != "batch_tokens"}
    best = group.joint.predict(**scale).values["lr"]
    assert f"At the largest scale, width = 512, best is lr {best.value:.3g} [{best.low:.3g}, {best.high:.3g}]" in plain
    e = group.joint.estimates["lr ~ width"]
    assert f"lr ∝ width^{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]" in plain
    assert f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" in plain
    for score in group.validation.scores:
        assert f"{score.method} {score.mean_percent:.3g}" in plain
    bounded = [optimum for optimum in group.optima if optimum.lr is None]
    assert bounded and all(optimum.advice in plain for optimum in bounded)


def test_warnings_and_what_was_not_fitted_are_shown(folder: Path, laws: Laws) -> None:
    plain = words((folder / "laws.html").read_text())
    (group,) = laws.groups
    fits = [*group.lr_fits.values(), *group.loss_fits.values()]
    said = [text for fit in fits for text in fit.warnings] + list(group.not_fitted.values())
    assert said and all(squeezed(text) in plain for text in said)


def test_the_report_card_is_there_in_its_order(folder: Path, laws: Laws, runs: pd.DataFrame) -> None:
    plain = words((folder / "laws.html").read_text())
    places = [plain.index(item.question) for item in report_card(laws, runs)]
    assert places == sorted(places)
    assert "not stated (give the column unique_tokens)" in plain


def test_it_says_how_to_repeat_it(folder: Path, laws: Laws, runs: pd.DataFrame, tmp_path: Path) -> None:
    assert "scalelab fit 'my <runs>.csv' --seed 3 --draws 100" in words((folder / "laws.html").read_text())
    report.write_laws(laws, runs, tmp_path, figures=False, command="scalelab fit -c N=size x", title="<T>")
    page = (tmp_path / "laws.html").read_text()
    assert "scalelab fit -c N=size x" in page and "<title>&lt;T&gt;</title>" in page
    assert "<img" not in page and not list(tmp_path.glob("*.png"))


def test_the_same_laws_give_the_same_page(folder: Path, laws: Laws, runs: pd.DataFrame, tmp_path: Path) -> None:
    report.write_laws(laws, runs, tmp_path, figures=True)
    assert (tmp_path / "laws.html").read_bytes() == (folder / "laws.html").read_bytes()


def test_a_ladder_without_learning_rates_has_a_page(tmp_path: Path) -> None:
    rows = ladder()
    report.write_laws(study(rows, draws=100, laws=["chinchilla"]), rows, tmp_path, figures=False)
    page = (tmp_path / "laws.html").read_text()
    plain = words(page)
    assert "The loss follows chinchilla best: loss = E + A/N^alpha + B/D^beta" in plain
    assert '<section id="best-learning-rates' not in page  # but what would add them
    assert "Best learning rates, scale by scale it takes runs with several learning rates" in plain
    assert (tmp_path / "optima.csv").exists() and (tmp_path / "joint.csv").exists()
