"""What people look at: every cell is printed, figures hold the data, a report holds the numbers."""

import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from scalelab import plots, report, show_checks, show_laws, show_tables
from scalelab.confirm import confirm
from scalelab.confirm import write as write_confirmation
from scalelab.console import interval
from scalelab.laws import Laws, drift, study
from scalelab.laws import write as write_laws
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import TABLES, Family, Parametrization, Role
from scalelab.plots.valleys import LOST, OPTIMA, RUNS
from scalelab.probe import Check, Slope
from scalelab.readers import Runs, read
from scalelab.recipe import Recipe, write_recipe
from scalelab.recommend import recommend
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed, sweep, tree, valley, write_trial
from tests.test_plots import shown


def printed() -> Console:
    return Console(file=io.StringIO(), width=200)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def loss(spec: RunSpec) -> float | None:
    """SP's optimum falls like 1/width, muP's stays; the widest SP runs diverge at the two highest rates."""
    if spec.parametrization == "sp" and spec.shape.width == 128 and spec.hparams.lr > 2**-4.5:
        return None
    if spec.parametrization == "sp":
        return valley(centre=-5.0, exponent=-1.0)(spec)
    return valley()(spec)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    sweep(folder, loss, parametrizations=("sp", "mup"), log2_lrs=range(-10, -2))
    return read([folder])


@pytest.fixture(scope="module")
def laws(runs: Runs) -> Laws:
    return study(runs.table, theory={"width": 0.0}, template=runs.template, draws=300, conventions=runs.conventions)


def a_check(parametrization: str, *, grows: bool) -> Check:
    x = np.array([64.0, 128.0])[:, None, None, None]
    sizes = x ** (0.8 if grows else 0.0) * np.ones((2, 2, 3, 2))
    verdict = "grows" if grows else "ok"
    slopes = tuple(
        Slope(module=name, activation=0.1, se_activation=0.01, update=0.8 if grows else 0.0, se_update=0.02,
              verdict=verdict)
        for name in ("query", "logits")
    )  # fmt: skip
    return Check(
        parametrization=parametrization, optimizer="adamw", axis="width", values=(64, 128), lr=0.005,
        modules=("query", "logits"), activation=np.ones((2, 2, 3, 2)), update=sizes, slopes=slopes,
    )  # fmt: skip


# --- tables on the console --------------------------------------------------------------------------------------------


def cells(parametrization: Parametrization) -> Iterator[tuple[str, Role, tuple[str, ...]]]:
    """Every role's row as it must be printed: family, role, the five columns."""
    for (role, family), rule in parametrization.rules.items():
        eps = "—" if rule.eps is None else str(rule.eps)
        yield str(family), role, (*map(str, (rule.multiplier, rule.init, rule.lr, rule.weight_decay)), eps)


def rows_of(text: str) -> list[list[str]]:
    """The rows of a printed table, each after its family: the family, the roles, the five columns."""
    found, family = [], ""
    for line in text.splitlines():
        if heading := re.match(r"(\w+) \(", line):
            family = heading[1]
        found.append([family, *re.split(r"\s{2,}", line.strip())])
    return found


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", [120, 200])
def test_every_cell_of_a_table_is_printed(name: str, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    show_tables.table(TABLES[name], console)
    lines = rows_of(text_of(console))
    for family, role, columns in cells(TABLES[name]):
        assert any(line[0] == family and role in line[1].split(", ") and line[2:] == list(columns) for line in lines), (
            family, role, columns,
        )  # fmt: skip
    text = squeezed(text_of(console))
    inputs = {rule.eps_input for rule in TABLES[name].rules.values() if rule.eps_input is not None}
    assert all(re.search(f"damping of the inputs' factor: [a-z, ]+ × {re.escape(str(cell))}", text) for cell in inputs)
    for site, cell in TABLES[name].sites.items():
        assert f"{site}: × {cell}" in text
    assert squeezed(TABLES[name].source) in text
    assert all(squeezed(note) in text for note in TABLES[name].notes)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_table_for_one_optimizer_holds_what_that_one_needs(optimizer: str) -> None:
    console = printed()
    show_tables.table(TABLES["mup"], console, optimizer=optimizer)
    kind = OPTIMIZERS[optimizer]
    kinds = [kind, *([OPTIMIZERS[kind.then]] if kind.then else [])]
    needed = {(str(each.family_of(role)), role) for each in kinds for role in Role}
    found = {
        (line[0], role)
        for line in rows_of(text_of(console)) if len(line) == 7
        for role in line[1].split(", ") if role in set(Role)
    }  # fmt: skip
    assert found == {(family, str(role)) for family, role in needed}


def test_the_command_lists_all_tables_and_prints_one() -> None:
    everything, one = scalelab("tables"), scalelab("tables", "completep")
    assert everything.exit_code == one.exit_code == 0
    assert max(len(line.rstrip()) for line in everything.stdout.splitlines()) <= 120
    starts = {line.split(" ")[0] for line in everything.stdout.splitlines()}
    assert set(TABLES) <= starts
    assert len(everything.stdout.splitlines()) < 4 * len(TABLES)
    assert "completep: CompleteP" in one.stdout and "mup: " not in one.stdout
    assert "did you mean 'mup'" in one_line(scalelab("tables", "mupp"))
    assert "did you mean 'adamw'" in one_line(scalelab("tables", "--optimizer", "adamm"))


def test_the_list_holds_the_tables_that_cover_an_optimizer() -> None:
    listed = scalelab("tables", "--optimizer", "muon").stdout
    starts = {line.split(" ")[0] for line in listed.splitlines()}
    covering = {name for name, table in TABLES.items() if (Role.HIDDEN, Family.MUON) in table.rules}
    assert starts & set(TABLES) == covering
    assert "no rule for hidden/muon" in one_line(scalelab("tables", "u_mup", "--optimizer", "muon"))


def test_laws_are_printed_with_every_optimum_and_exponent(laws: Laws) -> None:
    console = printed()
    show_laws.laws(laws, console)
    text = squeezed(text_of(console))
    for group in laws.groups:
        assert f"{plots.title(group)} at " in text
        assert f"{group.n_runs} runs, {group.n_diverged} diverged; noise" in text
        assert group.joint is not None
        both = (group.joint.estimates["lr ~ width"], group.lr_fits["power"].estimates["width"])
        said = " ".join(f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e in both)
        assert f"lr width {said}" in text
        for optimum in group.optima:
            assert optimum.log2_lr is not None
            assert f"{optimum.scale['width']:.0f} {2**optimum.log2_lr:.3g} [" in text


def test_intervals_say_what_is_known() -> None:
    assert interval(0.5, 0.25, 1.0) == "0.5 [0.25, 1]"
    assert interval(None, 0.25, 1.0) == "in [0.25, 1]"
    assert interval(None, None, 1.0) == "≤ 1"
    assert interval(None, 0.25, None) == "≥ 0.25"
    assert interval(None, None, None) == "—"


def test_a_check_is_printed_with_its_slopes_and_verdict() -> None:
    console = printed()
    show_checks.check(a_check("sp", grows=True), console)
    text = squeezed(text_of(console))
    assert "query +0.10 ± 0.01 +0.80 ± 0.02 grows" in text and "sp FAILS in width" in text


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_valleys_show_every_run_and_the_fitted_optima(laws: Laws, runs: Runs) -> None:
    figure = plots.valleys(laws, runs.table)
    assert len(figure.axes) == len(laws.groups) == 2
    for axis, group in zip(figure.axes, laws.groups, strict=True):
        assert shown(axis, OPTIMA) == [(optimum.lr, optimum.loss_nats) for optimum in group.optima]
        lost = shown(axis, LOST)
        assert len(shown(axis, RUNS)) + len(lost) == group.n_runs
        assert len(lost) == group.n_diverged
        low, high = axis.get_ylim()
        assert all(low <= y <= high for _, y in lost)
        assert axis.get_title() == plots.title(group)
    assert {group.n_diverged for group in laws.groups} == {0, 4}


def test_the_optimum_against_scale_shows_each_optimum_and_the_law(laws: Laws) -> None:
    (axis,) = plots.optimum_against_scale(laws).axes
    drawn = {
        (float(x), round(float(y), 9))
        for container in axis.containers
        for x, y in zip(*(np.asarray(d, dtype=float) for d in container.lines[0].get_data()), strict=True)  # type: ignore[attr-defined]
    }
    for group in laws.groups:
        for optimum in group.optima:
            assert optimum.log2_lr is not None
            assert (optimum.scale["width"], round(2**optimum.log2_lr, 9)) in drawn
        assert group.joint is not None
        exponent = group.joint.estimates["lr ~ width"]
        labels = " ".join(text.get_text() for text in axis.get_legend().get_texts())  # type: ignore[union-attr]
        assert f"{exponent.value:+.2f}" in labels


def test_the_check_draws_each_module_with_its_slope() -> None:
    check = a_check("sp", grows=True)
    figure = plots.coordinate_check(check)
    _, update = figure.axes
    for index, (line, module) in enumerate(zip(update.lines, check.modules, strict=True)):
        assert np.allclose(np.asarray(line.get_ydata()), np.log2(check.update[:, :, -1, index]).mean(axis=1))
        assert line.get_label() == f"{module} +0.80"
    assert figure.get_suptitle() == "Coordinate check of sp in width: FAILS"


def test_the_same_data_give_the_same_svg(laws: Laws, runs: Runs, tmp_path: Path) -> None:
    for name in ("one", "other"):
        report.save(plots.valleys(laws, runs.table), tmp_path / name, "valleys")
    one, other = (tree(tmp_path / name)["valleys.svg"][1] for name in ("one", "other"))
    assert one == other


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laws_folder(laws: Laws, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laws")
    write_laws(laws, folder / "laws.json")
    report.write_laws(laws, runs.table, folder, figures=True)
    return folder


@pytest.fixture
def studied(laws: Laws, laws_folder: Path, runs: Runs, tmp_path: Path) -> Path:
    """A study as the commands leave it."""
    recipe = recommend(laws, {"width": 256}, parametrization="mup")
    shutil.copytree(laws_folder, tmp_path / "laws")
    write_recipe(recipe, tmp_path / "recipe.yaml")
    confirmed_and_checked(tmp_path, recipe, runs, {0.5: (2.5, 2.51), 1.0: (2.4321, 2.4521), 2.0: (2.42, 2.43)})
    return tmp_path


def confirmed_and_checked(folder: Path, recipe: Recipe, runs: Runs, losses: Mapping[float, Sequence[float]]) -> None:
    """Runs at a recipe's target, a loss a seed by the factor on its lr, their confirmation, two checks."""
    for factor, by_seed in losses.items():
        for seed, at in enumerate(by_seed):
            spec = make_spec(width=256, seed=seed)
            spec = replace(spec, hparams=replace(spec.hparams, lr=recipe.lr.value * factor))
            write_trial(folder / "target", spec, at)
    found = confirm(recipe, read([folder / "target"]), proxies=runs)
    write_confirmation(found, folder)
    report.save(plots.target(found), folder, "target")
    for name, grows in (("sp", True), ("mup", False)):
        report.write_check(a_check(name, grows=grows), folder / "check")


def test_a_report_holds_regret_drift_checks_and_the_recipe(studied: Path, laws: Laws) -> None:
    result = scalelab("report", str(studied), "--title", "A <study>")
    assert result.exit_code == 0, result.output
    page = (studied / "report.html").read_text()
    plain = squeezed(re.sub(r"<[^>]*>", " ", page))
    confirmation = json.loads((studied / "confirmation.json").read_text())
    assert confirmation["regret_nats"] == pytest.approx(0.0171)
    assert "Regret of the recipe: 0.0171 nats" in plain
    assert f"tried is 0.0171 ± {confirmation['se_nats']:.4f}" in plain
    assert f"{100 * confirmation['compute_share']:.1f} %" in plain
    for group in laws.groups:
        moved = drift(group)
        assert moved is not None and moved.exponent is not None
        assert f"{moved.octaves:+.2f} ± {moved.sd_octaves:.2f}" in plain
        assert f"{moved.exponent.value:+.2f} [{moved.exponent.low:+.2f}, {moved.exponent.high:+.2f}]" in plain
    assert "query grows, logits grows" in plain and "every slope within its bounds" in plain
    assert "blocks.*.attention.query.weight" in plain
    assert "A &lt;study&gt;" in page
    figures = re.findall(r'<svg class="drawn" role="img" tabindex="0" aria-label="([^"]+)"', page)
    assert page.count('class="drawn"') == len(figures) >= 8
    for title in ("Learning-rate valleys", "Optimum against scale", "Loss against compute", "The valley at the target"):
        assert sum(figure.startswith(title) for figure in figures) == 1


def test_drift_and_its_cost_are_those_of_the_formula(laws: Laws) -> None:
    moved = {group.key["parametrization"]: drift(group) for group in laws.groups}
    sp, mup = moved["sp"], moved["mup"]
    assert sp is not None and mup is not None
    assert (sp.scale, sp.smallest, sp.largest) == ("width", 32, 128)
    assert sp.octaves == pytest.approx(-2.0, abs=0.1)
    assert sp.copy_cost_nats == pytest.approx(0.05 * 4, rel=0.15)  # two octaves off, squared
    assert mup.octaves == pytest.approx(0.0, abs=0.05)
    assert mup.copy_cost_nats == pytest.approx(0.0, abs=0.001)


def test_a_report_of_a_part_is_a_report(studied: Path) -> None:
    for name in ("recipe.yaml", "confirmation.json", "laws/valleys.png"):
        (studied / name).unlink()
    assert scalelab("report", str(studied)).exit_code == 0
    page = (studied / "report.html").read_text()
    assert "Coordinate check" in page and "Regret of the recipe" not in page


@pytest.mark.parametrize("name", ["confirmation.json", "laws/laws.json", "recipe.yaml", "check/check_sp_width.json"])
def test_a_damaged_study_is_refused_and_nothing_written(name: str, studied: Path) -> None:
    (studied / name).write_text("{")
    before = tree(studied)
    assert Path(name).name in one_line(scalelab("report", str(studied)))
    assert tree(studied) == before


def test_nothing_to_report_is_refused(tmp_path: Path) -> None:
    assert "nothing to report" in one_line(scalelab("report", str(tmp_path)))
    assert "nothing to report" in one_line(scalelab("report", str(tmp_path / "nowhere")))
    assert not list(tmp_path.iterdir())


def test_the_tables_beside_the_laws_are_complete(studied: Path, laws: Laws, runs: Runs) -> None:
    lines = {name: (studied / "laws" / f"{name}.csv").read_text().splitlines() for name in ("optima", "runs")}
    assert len(lines["runs"]) == 1 + len(runs.table)
    assert len(lines["optima"]) == 1 + sum(len(group.optima) for group in laws.groups)
