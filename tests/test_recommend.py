"""From laws to a recipe: which learning rate is chosen and why, that every value is the table's, what is refused."""

import json
import math
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from scalelab.errors import Refused
from scalelab.laws import Laws, study
from scalelab.models import count_params
from scalelab.plan import plan
from scalelab.readers import read
from scalelab.recipe import Recipe, read_recipe, write_recipe
from scalelab.recommend import recommend
from scalelab.resolve import multipliers, settings
from scalelab.shape import Architecture
from scalelab.spec import Horizon, RunSpec
from scalelab.target import parse_target, target_spec
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed, sweep, tree, valley

GROUPED = {"heads": 4, "kv_heads": 2}


def laws_of(folder: Path) -> Laws:
    found = read([folder])
    return study(
        found.table, theory={"width": 0.0, "depth": 0.0}, template=found.template, sources=found.sources, draws=300
    )


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Laws:
    """Runs whose optimum is at 2^-6 at every width."""
    folder = tmp_path_factory.mktemp("flat")
    sweep(folder, valley())
    return laws_of(folder)


@pytest.fixture(scope="module")
def falling(tmp_path_factory: pytest.TempPathFactory) -> Laws:
    """Runs whose optimum falls like 1/width from 2^-5 at width 32."""
    folder = tmp_path_factory.mktemp("falling")
    sweep(folder, valley(centre=-5.0, exponent=-1.0), log2_lrs=range(-10, -2))
    return laws_of(folder)


def target(width: int, recipe: Recipe) -> RunSpec:
    spec = make_spec(width=width)
    return replace(spec, hparams=replace(spec.hparams, lr=recipe.lr.value))


def test_a_table_of_horizons_is_held_against_the_proxys_where_that_was_its_own() -> None:
    proxy, target = make_spec("completed_p", tokens=640), {"width": 64, "tokens": 2560}
    spec = target_spec(proxy, target)
    assert spec.base_tokens == 640
    assert settings(spec)[0].lr == settings(proxy)[0].lr / 2  # √(1/4)
    assert target_spec(make_spec("mup", tokens=640), target).base_tokens is None
    decayed = make_spec("mup", tokens=640, weight_decay_policy="ema")
    assert settings(target_spec(decayed, target))[0].weight_decay == settings(decayed)[0].weight_decay / 4


# --- which learning rate ----------------------------------------------------------------------------------------------


def test_where_the_sweep_agrees_with_theory_it_weighs_most(flat: Laws) -> None:
    recipe = recommend(flat, {"width": 512})
    assert recipe.lr.kind == "averaged"
    (lr,) = (value for value in recipe.values if value.name == "lr")
    assert lr.source == "both" and lr.theory_weight is not None and 0.75 < lr.theory_weight < 1
    assert math.log2(recipe.lr.value) == pytest.approx(-6.0, abs=0.05)
    assert "agrees with theory" in recipe.why and "width: theory 0, the sweep" in recipe.why
    assert {choice.kind for choice in recipe.choices} == {"averaged", "theory", "measured"}
    assert recipe.evidence["weights"] == {"theory": lr.theory_weight, "width": lr.theory_weight, "prior": 0.5}
    assert recipe.lr.low < recipe.lr.value < recipe.lr.high


def test_where_the_sweep_contradicts_theory_the_measurement_weighs_all(falling: Laws) -> None:
    recipe = recommend(falling, {"width": 512})
    (lr,) = (value for value in recipe.values if value.name == "lr")
    assert lr.source == "law" and lr.theory_weight is not None and lr.theory_weight < 0.01
    assert any("theory and measurement disagree in width" in warning for warning in recipe.warnings)
    assert math.log2(recipe.lr.value) == pytest.approx(-5.0 - math.log2(512 / 32), abs=0.3)
    assert "contradicts a constant optimum in width" in recipe.why
    assert any("theory" in warning and "gives lr" in warning for warning in recipe.warnings)


def test_a_table_that_claims_nothing_is_measured_even_where_nothing_moves(tmp_path: Path) -> None:
    sweep(tmp_path, valley(), parametrizations=("sp",))
    recipe = recommend(laws_of(tmp_path), {"width": 512})
    assert recipe.lr.kind == "measured"
    (lr,) = (value for value in recipe.values if value.name == "lr")
    assert (lr.source, lr.theory_weight) == ("law", 0.0)
    assert "does not say how the optimum moves with width (width: theory silent" in recipe.why
    assert "theory has no weight" in recipe.why


def test_the_regret_is_the_valleys_curvature_over_what_may_be_best(flat: Laws) -> None:
    recipe = recommend(flat, {"width": 512})
    sd = math.log2(recipe.lr.high / recipe.lr.low) / (2 * 1.96)
    chosen, half, double = recipe.regrets
    assert (chosen.setting, half.setting, half.factor, double.factor) == ("recommended", "lr", 0.5, 2.0)
    assert chosen.nats == pytest.approx(0.05 * sd**2, rel=0.35)
    for off in (half, double):  # an octave off costs the curvature
        assert off.nats - chosen.nats == pytest.approx(0.05, rel=0.25)
        assert off.high > off.nats > chosen.nats and chosen.high > chosen.nats
        assert off.compute_percent is None


def test_without_a_fit_of_all_runs_the_scales_own_optima_are_enough(flat: Laws) -> None:
    laws = replace(flat, groups=[replace(group, joint=None) for group in flat.groups])
    recipe = recommend(laws, {"width": 512})
    assert math.log2(recipe.lr.value) == pytest.approx(-6.0, abs=0.1)
    chosen, half, double = recipe.regrets
    assert chosen.nats < half.nats and chosen.nats < double.nats
    assert half.nats - chosen.nats == pytest.approx(0.05, rel=0.3)
    assert recipe.confirm == ()


def test_a_batch_that_no_law_knows_moves_the_rate_by_assumption_and_widens_it(flat: Laws) -> None:
    same, other = (recommend(flat, {"width": 256, "batch_tokens": batch}) for batch in (64, 320))
    assert math.log(other.lr.value / same.lr.value) == pytest.approx(0.4 * math.log(5), abs=0.15)
    assert other.lr.high / other.lr.low > 1.5 * same.lr.high / same.lr.low
    assert any("the learning rate is moved by lr ∝ batch^0.4" in warning for warning in other.warnings)
    (batch,) = (value for value in other.values if value.name == "batch_tokens")
    assert (batch.value, batch.source) == (320.0, "asked")


# --- every value ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("name", ["sp", "mup", "completep"])
def test_every_value_is_the_tables_at_the_target(name: str, optimizer: str, tmp_path: Path) -> None:
    sweep(tmp_path, valley(), parametrizations=(name,), optimizer=optimizer, depth=4, seeds=(0,))
    recipe = recommend(laws_of(tmp_path), {"width": 256, "depth": 8})
    base = make_spec(name, width=256, depth=8, optimizer=optimizer)
    spec = replace(base, hparams=replace(base.hparams, lr=recipe.lr.value))
    claimed = 0
    for setting in settings(spec):
        matching = [g for g in recipe.groups if any(fnmatch(setting.tensor.name, p) for p in g.patterns)]
        assert len(matching) == 1, setting.tensor.name
        claimed += 1
        (group,) = matching
        assert group.role == setting.tensor.role
        assert (group.init_std, group.multiplier, group.lr, group.weight_decay, group.eps) == (
            setting.init_std, setting.multiplier, setting.lr, setting.weight_decay, setting.eps,
        )  # fmt: skip
        assert group.lr_low / group.lr == pytest.approx(recipe.lr.low / recipe.lr.value)
        assert group.lr_high / group.lr == pytest.approx(recipe.lr.high / recipe.lr.value)
    assert claimed == len(settings(spec))
    assert recipe.sites["softmax_scale"] == multipliers(spec).attention
    assert recipe.sites["residual_branch"] == multipliers(spec).residual
    assert recipe.cost_flops == spec.cost_flops
    assert recipe.params == {"non_embedding": count_params(spec).non_embedding,
                             "total": count_params(spec).total}  # fmt: skip


def test_the_family_of_shapes_is_kept(tmp_path: Path) -> None:
    sweep(tmp_path, valley(), sizes=GROUPED, widths=(64, 128, 256), seeds=(0,))
    recipe = recommend(laws_of(tmp_path), {"width": 512})
    # heads were fixed, so head_dim grows with width; 2 queries a key/value head; ffn 4 × width
    assert (recipe.target["heads"], recipe.target["kv_heads"], recipe.target["ffn"]) == (4, 2, 2048)
    wider = recommend(laws_of(tmp_path), {"width": 512, "heads": 8, "ffn": 1000})
    assert (wider.target["heads"], wider.target["kv_heads"], wider.target["ffn"]) == (8, 4, 1000)


def test_with_a_fixed_head_dimension_heads_grow_with_width(flat: Laws) -> None:
    assert recommend(flat, {"width": 512}).target["heads"] == 32  # head_dim 16
    assert recommend(flat, {"width": 512, "head_dim": 64}).target["heads"] == 8
    with pytest.raises(Refused, match="width=520 is not whole heads of head_dim=16: try width=5"):
        recommend(flat, {"width": 520})


def test_its_overrides_make_the_target(flat: Laws) -> None:
    recipe = recommend(flat, {"width": 256, "depth": 4, "tokens": 1280})
    (run,) = plan(recipe.overrides, multirun=False).runs
    base = make_spec(width=256, depth=4, tokens=1280)
    decay = recipe.run["weight_decay"]  # another horizon, by Power Lines: at 2/8 of the tokens a parameter
    params = count_params(base).non_embedding / count_params(make_spec(width=128)).non_embedding
    assert params == pytest.approx(8, rel=0.01)
    assert decay == pytest.approx(0.1 / 2 * (2 / params) ** 0.527)
    assert run.spec == replace(base, hparams=replace(base.hparams, lr=recipe.lr.value, weight_decay=decay))


def test_a_run_and_a_sweep_can_start_from_it(flat: Laws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = recommend(flat, {"width": 256})
    write_recipe(recipe, tmp_path / "recipe.yaml")
    result = scalelab("train", "-m", "--recipe", "recipe.yaml", "--dry-run", "lr_factor=0.5,1", "seed=0,1")
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    base = make_spec(width=256)
    for factor in (0.5, 1.0):
        for seed in (0, 1):
            spec = replace(base, hparams=replace(base.hparams, lr=recipe.lr.value * factor), seed=seed)
            assert spec.fingerprint in text


def test_the_evidence_is_what_was_measured(flat: Laws) -> None:
    evidence = recommend(flat, {"width": 256}).evidence
    assert evidence["runs"] == 42 and evidence["diverged"] == 0
    assert [optimum["width"] for optimum in evidence["optima"]] == [32, 64, 128]
    for optimum in evidence["optima"]:
        assert math.log2(optimum["lr"]) == pytest.approx(-6, abs=0.05)
    assert evidence["exponents"]["power"]["width"]["low"] < 0 < evidence["exponents"]["power"]["width"]["high"]


# --- warnings ---------------------------------------------------------------------------------------------------------


def test_leaving_the_data_is_warned_of(flat: Laws) -> None:
    near = recommend(flat, {"width": 256}).warnings
    assert any(w.startswith("width 256 is ×2 beyond the largest proxy's 128") and "decade" not in w for w in near)
    assert not any("tokens" in w and "beyond" in w for w in near)
    far = recommend(flat, {"width": 2048, "tokens": 6400, "depth": 8, "batch_tokens": 128}).warnings
    text = "\n".join(far)
    assert "width 2048 is ×16 beyond the largest proxy's 128 (more than a decade" in text
    assert "tokens 6400 is ×10 beyond the proxies', which all had 640: there is no law in tokens" in text
    assert "depth 8 is ×4 beyond the proxies', which all had 2" in text
    assert "batch_tokens 128 differs from the proxies' 64" in text
    assert "3 scales only" in text


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_targets_are_parsed_and_checked() -> None:
    assert parse_target(["width=512 depth=4", "tokens=1e6"]) == {"width": 512, "depth": 4, "tokens": 1_000_000}
    assert parse_target(["width=1_024,depth=2"]) == {"width": 1024, "depth": 2}
    assert parse_target(["width=64 tokens=1.5T batch_tokens=choose"]) == {"width": 64, "tokens": 1_500_000_000_000}
    for given, said in (
        ("width", "accepted is NAME=NUMBER"),
        ("widht=64", "unknown target 'widht'.*did you mean 'width'"),
        ("width=0", "width=0: accepted is a positive whole number"),
        ("width=-64", "positive whole number"),
        ("width=64.5", "positive whole number"),
        ("width=abc", "positive whole number"),
        ("width=1/0", "positive whole number"),
        ("width=nan", "positive whole number"),
        ("depth=2", "no width"),
        ("", "no width"),
    ):
        with pytest.raises(Refused, match=said):
            parse_target([given])


def test_a_target_below_the_proxies_is_refused(flat: Laws) -> None:
    with pytest.raises(Refused, match="fewer than the largest proxy's"):
        recommend(flat, {"width": 64})
    with pytest.raises(Refused, match="320 tokens, fewer than every proxy"):
        recommend(flat, {"width": 256, "tokens": 320})


def test_a_broken_target_is_refused(flat: Laws) -> None:
    with pytest.raises(Refused, match="not a whole number of steps"):
        recommend(flat, {"width": 256, "tokens": 1000, "batch_tokens": 64})
    with pytest.raises(Refused, match="heads=3 do not divide"):
        recommend(flat, {"width": 256, "heads": 3})


def test_of_several_parametrizations_one_must_be_chosen(tmp_path: Path) -> None:
    sweep(tmp_path, valley(), parametrizations=("sp", "mup"), seeds=(0,))
    laws = laws_of(tmp_path)
    with pytest.raises(Refused, match="choose one with -p, of mup, sp"):
        recommend(laws, {"width": 256})
    assert recommend(laws, {"width": 256}, parametrization="sp").parametrization == "sp"
    with pytest.raises(Refused, match="did you mean 'mup'"):
        recommend(laws, {"width": 256}, parametrization="mupp")


def test_laws_of_a_file_cannot_make_a_recipe(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", valley(), seeds=(0,))
    read([tmp_path / "runs"]).table.to_csv(tmp_path / "runs.csv", index=False)
    assert scalelab("fit", str(tmp_path / "runs.csv"), "-o", str(tmp_path), "--no-plots").exit_code == 0
    said = one_line(
        scalelab("recommend", "--laws", str(tmp_path / "laws.json"), "-t", "width=256", "-o", str(tmp_path / "r.yaml"))
    )
    assert "a recipe needs run folders" in said
    assert not (tmp_path / "r.yaml").exists()


def test_one_width_and_no_survivor_are_refused_by_the_fit(tmp_path: Path) -> None:
    sweep(tmp_path / "one", valley(), widths=(64,))
    assert "one scale only" in one_line(scalelab("fit", str(tmp_path / "one"), "-o", str(tmp_path / "laws")))
    sweep(tmp_path / "none", lambda spec: None)
    assert "every run diverged" in one_line(scalelab("fit", str(tmp_path / "none"), "-o", str(tmp_path / "laws")))
    assert not (tmp_path / "laws").exists()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_recipe_is_read_as_it_was_written(flat: Laws, tmp_path: Path) -> None:
    recipe = recommend(flat, {"width": 512})
    write_recipe(recipe, tmp_path / "recipe.yaml")
    again = read_recipe(tmp_path / "recipe.yaml")
    assert asdict(again) == asdict(recipe)
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["kind"] == "scalelab recipe"


@pytest.mark.parametrize(
    "how", ["missing", "folder", "empty", "no yaml", "no text", "another kind", "cut off", "another version",
            "an older one", "a wrong value", "a wrong part", "a wrong group"],
)  # fmt: skip
def test_a_corrupt_recipe_is_refused_in_one_line(how: str, flat: Laws, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    write_recipe(recommend(flat, {"width": 512}), file)
    text = file.read_text()
    plain = yaml.safe_load(text)
    broken: dict[str, str | bytes | None] = {
        "missing": None,
        "folder": None,
        "empty": "",
        "no yaml": "a: [1,\nb: }",
        "no text": b"\xff\xfe\x00\x80",
        "another kind": "lr: 0.1\n",
        "cut off": text[: len(text) // 3],
        "another version": yaml.safe_dump({**plain, "version": 99}),
        "an older one": yaml.safe_dump({k: v for k, v in plain.items() if k not in ("values", "regrets", "confirm")}),
        "a wrong value": yaml.safe_dump({**plain, "values": [{"name": "lr"}]}),
        "a wrong part": yaml.safe_dump({**plain, "lr": 0.1}),
        "a wrong group": yaml.safe_dump({**plain, "groups": [{"role": "hidden"}]}),
    }
    content = broken[how]
    file.unlink()
    if how == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Refused) as refused:
        read_recipe(file)
    assert "recipe.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_a_corrupt_laws_file_is_refused_and_an_old_recipe_kept(
    flat: Laws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recipe(recommend(flat, {"width": 512}), tmp_path / "recipe.yaml")
    (tmp_path / "laws.json").write_text('{"format": "scalelab laws", "version": 1, "groups": [')
    before = tree(tmp_path)
    assert "laws.json" in one_line(scalelab("recommend", "--laws", "laws.json", "-t", "width=512"))
    assert "cannot be read" in one_line(scalelab("recommend", "--laws", "nowhere.json", "-t", "width=512"))
    assert tree(tmp_path) == before


def test_the_command_writes_and_shows_the_recipe(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", valley())
    assert scalelab("fit", str(tmp_path / "runs"), "-o", str(tmp_path / "laws"), "--no-plots").exit_code == 0
    assert json.loads((tmp_path / "laws" / "laws.json").read_text())["theory"] == {"width": 0.0, "depth": 0.0}
    result = scalelab(
        "recommend", "--laws", str(tmp_path / "laws" / "laws.json"), "-t", "width=256", "-o", str(tmp_path / "r.yaml")
    )
    assert result.exit_code == 0, result.output
    recipe, text = read_recipe(tmp_path / "r.yaml"), squeezed(result.stdout)
    assert f"{recipe.lr.value:.4g} [{recipe.lr.low:.4g}, {recipe.lr.high:.4g}]: averaged" in text
    for group in recipe.groups:
        assert all(pattern in text for pattern in group.patterns) and f"{group.lr:.4g}" in text
    for warning in recipe.warnings:
        assert squeezed(warning) in text
    for value in recipe.values:
        assert value.name in text
    assert "expected regret nats 95 % below % of loss % of compute" in text and "lr ×0.5" in text and "lr ×2" in text


def test_the_command_answers_programs_and_exports_beside_the_recipe(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", valley(), seeds=(0,))
    assert scalelab("fit", str(tmp_path / "runs"), "-o", str(tmp_path / "laws"), "--no-plots").exit_code == 0
    laws, out = str(tmp_path / "laws" / "laws.json"), tmp_path / "r.yaml"
    said = one_line(scalelab("recommend", "--laws", laws, "-t", "width=256", "-o", str(out), "--framework", "nanotron"))
    assert "no export to nanotron" in said and not out.exists()
    result = scalelab("recommend", "--laws", laws, "-t", "width=256 batch_tokens=choose", "-o", str(out), "--json",
                      "--framework", "param_groups")  # fmt: skip
    assert result.exit_code == 0, result.output
    answer, recipe = json.loads(result.stdout), read_recipe(out)
    assert answer["lr"]["value"] == recipe.lr.value and answer["target"] == recipe.target
    assert [row["setting"] for row in answer["regrets"]] == ["recommended", "lr", "lr"]
    assert {value["name"] for value in answer["values"]} == {value.name for value in recipe.values}
    assert list((tmp_path / "export").iterdir())


def test_where_tokens_varied_the_measurement_is_taken(tmp_path: Path) -> None:
    for tokens in (640, 1280, 2560):
        loss = valley(centre=-6.0 - 0.3 * math.log2(tokens / 640))
        sweep(tmp_path, loss, widths=(64,), tokens=tokens)
    laws = laws_of(tmp_path)
    recipe, wider = (recommend(laws, {"width": width, "tokens": 5120}) for width in (64, 128))
    assert recipe.lr.kind == "measured" and "does not say how the optimum moves with tokens" in recipe.why
    assert math.log2(recipe.lr.value) == pytest.approx(-6.9, abs=0.15)
    assert wider.lr.low < 0.8 * recipe.lr.low  # muP's claim in width was not tested
    assert isinstance(Horizon(**{k: v for k, v in recipe.run.items() if k in Horizon.__dataclass_fields__}), Horizon)


def test_a_target_beyond_what_was_swept_or_claimed_is_called_unverified(tmp_path: Path) -> None:
    sweep(tmp_path, valley())
    found = read([tmp_path])
    laws = study(found.table, template=found.template, draws=300)
    assert "UNVERIFIED" not in recommend(laws, {"width": 256}).why
    deeper = recommend(laws, {"width": 256, "depth": 8, "tokens": 64 * 100})
    assert "UNVERIFIED in depth, tokens" in deeper.why
    assert deeper.regrets == ()
    assert any("no regret is stated, since nothing says how the optimum moves with depth and tokens" in warning
               for warning in deeper.warnings)  # fmt: skip
    assert deeper.confirm[0].risk_after_nats < deeper.confirm[0].risk_nats


def test_a_target_of_a_unit_scaled_family_keeps_its_heads_and_mlp_ratio() -> None:
    """Its base is the shape of ones, which says nothing of the family."""
    architecture = Architecture(norm_gains="none")
    proxy = make_spec("u_mup", width=128, architecture=architecture, sizes={"heads": 4, "kv_heads": 2, "ffn": 344})
    shape = target_spec(proxy, {"width": 256}).shape
    assert (shape.heads, shape.kv_heads, shape.head_dim) == (8, 4, 32)
    assert shape.ffn == 680  # 344 is 8/3 × 128 to a multiple of 8, so this is 8/3 × 256


def test_a_target_keeps_the_experts_of_its_proxies_unless_it_names_others() -> None:
    proxy = make_spec(width=64, model="moe", sizes={"experts": 8, "top_k": 2}, architecture=Architecture())
    assert target_spec(proxy, {"width": 128}).shape.experts == 8
    shape = target_spec(proxy, {"width": 128, "experts": 16, "top_k": 4}).shape
    assert (shape.experts, shape.top_k) == (16, 4)


def test_a_recipe_names_the_optimizer_family_of_each_group_and_the_betas_of_the_target(tmp_path: Path) -> None:
    sweep(tmp_path, valley(), optimizer="muon")
    recipe = recommend(laws_of(tmp_path), parse_target(["width=256"]))
    assert {group.role: group.family for group in recipe.groups}["hidden"] == "muon"
    assert {group.family for group in recipe.groups if group.role != "hidden"} == {"adam"}
