"""A study's page: what stands in it for which folder, in order; what is hostile is text; what is missing is said."""

import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import yaml

from scalelab import report
from scalelab.confirm import Confirmation, LrResult
from scalelab.laws import study
from scalelab.laws import write as write_laws
from scalelab.readers import read
from scalelab.recipe import NextRun, Regret, Value, read_recipe, write_recipe
from scalelab.recommend import recommend
from scalelab.report.checked import checks
from scalelab.report.found import CheckFile, Found
from scalelab.report.launches import launches
from scalelab.report.proof import proof
from scalelab.report.tried import search
from scalelab.search_views import SearchView, Tried
from tests.helpers import one_line, scalelab, squeezed, sweep, valley

HOSTILE = '<script>alert(\'x\')</script>"><b onclick="y">&amp; \x1b[2J \u202e'
OVERRIDE = f"note={HOSTILE}"


def words(page: str) -> str:
    """What a reader sees."""
    shown = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return squeezed(unescape(re.sub(r"<[^>]*>", " ", shown)))


def launched(folder: Path, *, study_file: str, sources: list[dict[str, str]]) -> None:
    hydra = {
        "overrides": {
            "task": [f"+sweep={study_file}", OVERRIDE, "hydra.sweeper.storage=postgresql://me:swordfish@host/db"]
        },
        "runtime": {"choices": {"sweep": study_file}, "config_sources": sources},
        "sweeper": {"params": {"lr": "0.1,0.2", HOSTILE: "1,2"}},
    }
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs as a launch leaves it, without laws; the widest diverge at the highest rate."""
    root = tmp_path_factory.mktemp("swept")
    folder = root / "study"
    sweep(folder, lambda spec: None if spec.hparams.lr > 0.1 and spec.shape.width > 64 else valley()(spec))
    conf = root / "conf"
    (conf / "sweep").mkdir(parents=True)
    (conf / "sweep" / "mine.yaml").write_text(
        "# @package _global_\n#\n# Question: does <b>it</b> stay?\n\nwidth: 1\n# no\n"
    )
    launched(folder, study_file="mine", sources=[{"path": str(conf), "schema": "file", "provider": "main"}])
    return folder


@pytest.fixture(scope="module")
def page(swept: Path) -> str:
    result = scalelab("report", str(swept), "-o", str(swept.parent / "page.html"), "--title", HOSTILE)
    assert result.exit_code == 0, result.output
    assert "fitting its 42 runs" in result.output and not (swept / "report.html").exists()
    return (swept.parent / "page.html").read_text()


def test_a_folder_of_runs_is_fitted_and_shown(page: str, swept: Path) -> None:
    plain = words(page)
    order = ["In short", "What was asked", "Runs and cost", "Best learning rates, scale by scale",
             "How the best learning rate moves", "Loss against compute", "Report card", "To repeat it",
             "What is not here"]  # fmt: skip
    heads = [unescape(head) for head in re.findall(r"<h2[^>]*>([^<]*)</h2>", page)]
    assert [head for head in heads if head in order] == order
    assert "The laws were fitted for this page" in plain
    assert f"scalelab fit {swept} --seed 0 --draws 1000 -o {swept / 'laws'}" in plain
    assert "mine: Question: does <b>it</b> stay?" in plain and "# no" not in plain
    runs = read([swept]).table
    assert page.count('<tr id="row-run-') == len(runs) == 42
    for name in runs["run"]:
        assert f"<code>{Path(name).name}</code>" in page
    assert "42 40 2" in plain  # runs, OK, diverged


def test_every_point_leads_to_a_row_that_is_there(page: str) -> None:
    led = set(re.findall(r'<a tabindex="-1" href="#([^"]+)"', page))
    there = set(re.findall(r'<tr id="([^"]+)"', page))
    assert led <= there and {f"row-run-{place}" for place in range(42)} <= led
    assert {row for row in led if row.startswith("row-optimum")} == {f"row-optimum-{place}" for place in range(3)}


def test_what_is_missing_says_which_command_adds_it(page: str) -> None:
    absent = words(page[page.index('<section id="not-here"') :])
    for command in ("scalelab check", "scalelab recommend", "scalelab confirm", "batch_tokens="):
        assert command in absent
    assert '<section id="the-recipe"' not in page


def test_hostile_names_are_text(page: str) -> None:
    assert "<script>alert" not in page and "onclick=" not in page.replace("onclick=&#34;", "")
    assert re.findall(r"<script[^>]*>", page) == ["<script>"]
    assert "\x1b" not in page and "\u202e" not in page
    assert "note=&lt;script&gt;alert(" in page
    assert "swordfish" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:image/png;base64,)", page)


def test_figures_and_headings_are_described(page: str) -> None:
    assert '<html lang="en">' in page and '<meta name="viewport"' in page
    figures = re.findall(r"<(?:svg|img) class=\"drawn\"[^>]*>", page)
    assert figures and all(re.search(r'(aria-label|alt)="[^"]{20,}"', figure) for figure in figures)
    assert len(re.findall(r"<h1>", page)) == 1


def test_a_recipe_shows_its_values_regrets_and_next_runs(swept: Path, tmp_path: Path) -> None:
    runs = read([swept])
    laws = study(runs.table, template=runs.template, sources=runs.sources, draws=100)
    (tmp_path / "laws").mkdir()
    write_laws(laws, tmp_path / "laws" / "laws.json")
    found = replace(
        recommend(laws, {"width": 256}), warnings=(f"beware {HOSTILE}",),
        values=(Value(name="lr", value=0.25, low=0.125, high=0.5, source="both", theory_weight=0.75, rests_on="runs"),
                Value(name="schedule", value="<i>wsd</i>", source="proxies", rests_on="as they had it")),
        regrets=(Regret(setting="recommended", factor=1.0, nats=0.0123, high=0.0456, loss_percent=0.5,
                        compute_percent=None),
                 Regret(setting="lr", factor=2.0, nats=0.0999, high=0.2, loss_percent=None, compute_percent=None)),
        confirm=(NextRun(overrides=("width=512", "lr=0.1"), why="nearer the target", cost_flops=1.5e15,
                         risk_nats=0.0123, risk_after_nats=0.0045),),
    )  # fmt: skip
    write_recipe(found, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == found
    plain = words(report.write_html(tmp_path, "x").read_text())
    assert "lr 0.25 [0.125, 0.5] theory 75 %, law 25 % runs" in plain and "schedule <i>wsd</i> proxies" in plain
    assert "recommended 0.0123 0.0456 0.5" in plain and "lr × 2 0.0999 0.2000" in plain
    assert "width=512 lr=0.1 nearer the target 1.5e+15 0.0123 0.0045" in plain
    assert "beware <script>alert('x')</script>" in plain
    assert "42 runs, read from" in plain  # by the sources of the laws, which are elsewhere


def test_several_studies_without_laws_are_not_thrown_together(swept: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        sweep(tmp_path / name, valley(), widths=(32, 64), seeds=(0,))
    page = report.write_html(tmp_path, "x").read_text()
    assert "holds 2 studies; say whose runs belong together: scalelab fit" in words(page)
    assert "one 14 14" in words(page) and "other 14 14" in words(page)


def test_runs_without_a_law_are_shown_all_the_same(tmp_path: Path) -> None:
    sweep(tmp_path / "one", valley(), widths=(32,), seeds=(0,))
    plain = words(report.write_html(tmp_path / "one", "x").read_text())
    assert "No laws: one scale only" in plain and "one 7 7" in plain


def test_a_study_file_is_looked_for_where_configurations_are(swept: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("# no configuration\n")
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    sources = [{"path": str(tmp_path / "conf"), "schema": "file", "provider": "main"}]
    launched(tmp_path, study_file="../../secret", sources=sources)
    (found,) = launches(tmp_path)
    assert found.comment == "" and found.study_file == "../../secret"


@pytest.mark.parametrize("text", ["{", "a: 1", "hydra: 3", "hydra: {runtime: {}}"])
def test_a_damaged_launch_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"multirun\.yaml is damaged"):
        launches(tmp_path)
    sweep(tmp_path, valley(), widths=(32,), seeds=(0,), log2_lrs=(-5,))
    assert "multirun.yaml is damaged" in one_line(scalelab("report", str(tmp_path)))
    assert not (tmp_path / "report.html").exists()


def a_trial(number: int, *, loss: float, cost: float, outcome: str = "OK") -> Tried:
    return Tried(
        number=number, outcome=outcome, sampler="tpe", phase="<i>start</i>", warm=False, params={"lr": 2.0**-number},
        loss=loss, cost=cost, spent=cost, saved=0.0, runs=(),
    )  # fmt: skip


@pytest.fixture
def nothing(tmp_path: Path) -> Found:
    return Found(
        folder=tmp_path, launches=(), studies=(), origins=None, checks=(), study=None, fitted=False, unfitted="",
        recipe=None, confirmation=None, search=None,
    )  # fmt: skip


def test_a_search_has_its_best_its_front_and_every_trial(nothing: Found) -> None:
    tried = (a_trial(0, loss=3.0, cost=1e9), a_trial(1, loss=2.5, cost=4e9), a_trial(2, loss=2.75, cost=8e9),
             a_trial(3, loss=math.nan, cost=2e9, outcome="DIVERGED"))  # fmt: skip
    view = SearchView(name="mine", objectives=("loss_nats",), cost="cost_flops", tried=tried)
    section = search(replace(nothing, search=view))
    (shown,) = section.tables
    assert shown.anchors == tuple(f"row-trial-{number}" for number in range(4)) and shown.folded
    assert [row[:2] for row in shown.rows] == [("0", "OK"), ("1", "OK"), ("2", "OK"), ("3", "DIVERGED")]
    assert "The best is trial 1: 2.5000 with lr 0.5." in section.sentences
    led = re.findall(r'<a tabindex="-1" href="#([^"]+)"', section.pictures[0].body)
    assert sorted(led) == ["row-trial-0", "row-trial-1", "row-trial-2"]
    assert not search(nothing).says


def test_a_check_that_was_drawn_before_is_shown_as_it_is(nothing: Found) -> None:
    plain = {"passed": False, "parametrization": "mup<", "axis": "width"}
    section = checks(replace(nothing, checks=(CheckFile(kind="gradients", plain=plain, png=b"\x89PNG"),)))
    assert section.sentences == ("Gradient check: mup< fails in width.",)
    assert 'alt="Gradient check of mup&lt;"' in section.pictures[0].body
    assert "scalelab check" in checks(nothing).absent


def test_a_proof_of_another_recipe_says_so(nothing: Found, swept: Path) -> None:
    runs = read([swept])
    recipe = recommend(study(runs.table, template=runs.template, sources=runs.sources, draws=100), {"width": 256})
    results = tuple(
        LrResult(lr=lr, loss_nats=loss, sd_nats=None, seeds=1, diverged=0)
        for lr, loss in ((0.5, 2.0), (1.0, 1.9), (2.0, None))
    )
    proven = Confirmation(
        recipe_lr=1.0, rival_lr=0.5, gap_nats=-0.1, se_nats=None, regret_nats=0.0, regret_percent=0.0,
        seed_sd_nats=None, valley_lr=None, valley_lr_low=None, valley_lr_high=None, valley_regret_nats=None,
        results=results, target_flops=1e12, tuning_flops=None, replaced_flops=None,
    )  # fmt: skip
    section = proof(replace(nothing, confirmation=proven, recipe=recipe))
    assert "this is the proof of another recipe: its learning rate was 1" in section.warnings[0]
    assert [row[1] for row in section.tables[0].rows] == ["2.0000", "1.9000", "diverged"]
    same = replace(recipe, lr=replace(recipe.lr, value=1.0))
    assert not proof(replace(nothing, confirmation=proven, recipe=same)).warnings
