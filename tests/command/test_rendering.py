"""What templates may name, and what of a command is refused before anything is paid for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalelab.command import Place, check, rendered, shown
from scalelab.command.names import names_of
from scalelab.errors import Refused
from scalelab.resolve import groups, multipliers, settings
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.command.commanding import spec_of, stating
from tests.conftest import make_spec

COMMAND = stating(argv=["x"]).command
FOLDER = Path("/runs/study/run")


def named(name: str, spec: RunSpec) -> Any:
    return names_of(spec).value(name, "argv")


def words(*argv: str, spec: RunSpec | None = None, **given: Any) -> tuple[str, ...]:
    stated = stating(argv=list(argv), **given).command
    base = spec_of(stated) if spec is None else replace(spec, command=stated)
    return rendered(base, Place(folder=FOLDER)).argv


def test_a_role_has_the_values_that_the_trainer_would_use() -> None:
    spec = spec_of(COMMAND, width=256, hparams={"weight_decay": 0.1})
    for setting in settings(spec):
        name = setting.tensor.name.removesuffix(".weight").removesuffix(".gain")
        kind = name.split(".", 2)[2] if name.startswith("blocks.") else name
        for quantity in ("lr", "weight_decay", "eps", "init_std", "multiplier"):
            if (quantity, str(setting.tensor.role)) == ("multiplier", "embedding"):
                continue  # with the tuned one
            finer = f"{quantity}.{setting.tensor.role}.{kind.replace('.', '_')}"
            assert named(finer, spec) == getattr(setting, quantity)
    assert named("lr.hidden", spec) == spec.hparams.lr / 8
    assert named("lr.embedding", spec) == spec.hparams.lr == named("lr", spec)
    assert named("lr_factor.hidden", spec) == 1 / 8
    assert named("weight_decay.hidden", spec) == pytest.approx(0.8)
    assert named("multiplier.logits", spec) == 1 / 8
    assert named("multiplier.attention", spec) == multipliers(spec).attention


def test_values_at_the_base_do_not_move() -> None:
    wide, base = spec_of(COMMAND, width=256), spec_of(COMMAND, width=32)
    for name in ("lr.hidden", "init_std.hidden.mlp_down", "eps.readout", "multiplier.logits"):
        assert named(f"base.{name}", wide) == named(name, base)


def test_where_a_roles_tensors_differ_the_finer_names_are_said() -> None:
    with pytest.raises(Refused, match=r"is not one value here, say which: .*\{init_std.hidden.mlp_down\}") as refused:
        words("--std={init_std.hidden}")
    assert "trainer.argv[0]" in str(refused.value)
    spec = spec_of(COMMAND)
    down = next(group for group in groups(settings(spec)) if group.names[0].endswith("down.weight"))
    assert words("{init_std.hidden.mlp_down}") == (str(down.init_std),)


def test_numbers_of_the_run() -> None:
    assert words("{width}", "{base.width}", "{factor.width}", "{depth}", "{heads}", "{head_dim}", "{ffn}", "{context}",
                 "{vocab}", "{tokens}", "{steps}", "{batch_tokens}", "{sequences}", "{warmup_steps}", "{decay_steps}",
                 "{schedule}", "{seed}", "{positive_seed}", "{min_lr}", "{clip_norm}", "{dataset}") == (
        "64", "32", "2", "2", "4", "16", "256", "16", "256", "640", "10", "64", "4", "1", "9", "linear", "0", "1",
        "0.0", "1.0", "tiny@1")  # fmt: skip


def test_the_tables_betas_are_the_runs() -> None:
    spec = spec_of(COMMAND, base_batch_tokens=32)
    from scalelab.resolve import betas

    assert (named("beta1", spec), named("beta2", spec)) == betas(spec)


def test_a_table_without_a_base_has_no_names_of_it() -> None:
    spec = spec_of(COMMAND, "u_mup", architecture=Architecture(mlp="swiglu", norm_gains="none"))
    assert named("lr.hidden.mlp_up", spec) > 0
    with pytest.raises(Refused, match="no value is named"):
        named("base.lr.hidden.mlp_up", spec)


def test_places_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = rendered(stating(argv=["{folder}", "{checkpoint}", "{groups_json}"]), Place(folder=Path("runs/a b")))
    assert found.argv == tuple(str(tmp_path / "runs" / "a b" / name) for name in ("", "checkpoint", "groups.json"))
    assert found.env["SCALELAB_RUN_FOLDER"] == str(tmp_path / "runs" / "a b")


def test_the_groups_are_there_as_json() -> None:
    spec = stating(argv=["x"])
    plain = json.loads(rendered(spec, Place(folder=FOLDER)).groups)
    assert [group["lr"] for group in plain["groups"]] == [group.lr for group in groups(settings(spec))]
    assert plain["values"]["lr.hidden"] == named("lr.hidden", spec) and plain["run"] == spec.fingerprint
    assert plain["groups"][1]["patterns"][0].startswith("blocks.*.")


def test_words_follow_other_names() -> None:
    style = {"style": {"of": "schedule", "linear": "lin-{steps}", "wsd": "WSD"}}
    assert words("--style={style}", words=style) == ("--style=lin-10",)
    with pytest.raises(Refused, match="schedule=cosine with this command: accepted are linear, wsd"):
        words("{style}", words=style, spec=spec_of(COMMAND, schedule="cosine"))
    with pytest.raises(Refused, match="has a value already"):
        words("{lr}", words={"lr": {"of": "schedule", "linear": "x"}})


def test_what_must_hold_is_refused_where_it_does_not() -> None:
    needs = [{"that": "{schedule}", "is": ["cosine", "wsd"], "why": "it has no other"}]
    with pytest.raises(
        Refused, match=r"{schedule} is linear and with this command it is to be cosine or wsd: it has no"
    ):
        check(stating(requires=needs), FOLDER)
    with pytest.raises(Refused, match=r"it has no other; {width} is .* it is to be 7: it is 7"):  # all at once
        check(stating(requires=[*needs, {"that": "{width}", "is": ["7"], "why": "it is 7"}]), FOLDER)
    check(stating(requires=[{"that": "{lr:g} {steps}", "is": ["{lr:g} 10"], "why": "it"}]), FOLDER)
    check(make_spec(), FOLDER)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../other/log.jsonl", "below the run's folder"),
        ("{folder}/../x", "below the run's folder"),
        ("/etc/passwd", "below the run's folder"),
        (".", "a file below"),
        ("metrics.jsonl", "scalelab writes that file itself"),
        ("{folder}/trial.json", "scalelab writes that file itself"),
        ("command.log", "scalelab writes that file itself"),
        ("{no}/x", "no value is named"),
    ],
)
def test_what_is_read_is_the_runs_own(path: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        check(stating(metrics={"path": path}), FOLDER)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "out").symlink_to(tmp_path)
    with pytest.raises(Refused, match="below the run's folder"):
        check(stating(metrics={"path": "out/log.jsonl"}), tmp_path / "run")


def test_a_worker_of_one_gpu_shows_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def visible(device: str) -> str | None:
        return rendered(stating(), Place(folder=FOLDER, device=device)).env.get("CUDA_VISIBLE_DEVICES")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (visible("cpu"), visible("cuda"), visible("cuda:1")) == (None, None, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert visible("cuda:1") == "GPU-7"


def test_a_command_is_shown_as_it_would_be_typed() -> None:
    spec = stating(argv=["python", "it's $HOME"], env={"WIDTH": "{width} x"})
    assert shown(spec, Place(folder=FOLDER)) == """OMP_NUM_THREADS=1 WIDTH='64 x' python 'it'"'"'s $HOME'"""
