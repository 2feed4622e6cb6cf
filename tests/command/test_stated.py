"""What a configuration may say of a command, and what of it is a run's identity."""

import json
from typing import Any

import pytest

from scalelab.composing import as_mapping, composed_from
from scalelab.config import spec_from_config
from scalelab.errors import Refused
from scalelab.external import Command, Reading, command_of
from scalelab.overrides import overrides_of
from scalelab.spec import RunSpec, as_plain, from_plain
from tests.command.commanding import stating
from tests.conftest import make_spec

GIVEN: dict[str, Any] = {
    "name": "command",
    "argv": ["python", "a b.py", "--lr", "{lr:.6g}", '"quoted" \\ {{x}}', "it's, [so]"],
    "machine_argv": ["--data", "/data/x"],
    "env": {"WIDTH": "{width}", "EMPTY": ""},
    "words": {"style": {"of": "schedule", "wsd": "WSD", "linear": "linear"}},
    "metrics": {"kind": "regex", "patterns": [r"step (?P<step>\d+) \"loss\" (?P<validation_loss>\S+)$"],
                "unit": "bits_per_token"},
    "outcomes": {"3": "diverged"},
    "requires": [{"that": "{schedule}", "is": ["linear"], "why": "no other, here"}],
    "timeout_minutes": 5,
    "grace_seconds": 2,
}  # fmt: skip
EXTERNAL = ["data=external", "data.dataset=tiny@1", "data.vocab=256", "trainer=command"]


def composed(*overrides: str) -> RunSpec:
    return spec_from_config(as_mapping(composed_from(list(overrides))))


def test_runs_of_scalelab_keep_the_names_that_they_had() -> None:
    # Taken before there were commands.
    assert composed("width=64").fingerprint == "309c13302fa0"
    assert make_spec().fingerprint == "05b0c0991238"
    assert "command" not in as_plain(make_spec())


def test_records_without_a_command_are_read() -> None:
    spec = make_spec()
    assert from_plain(json.loads(json.dumps(as_plain(spec)))) == spec
    assert from_plain({**as_plain(spec), "command": None}) == spec


def test_a_command_is_read_back() -> None:
    spec = stating(**GIVEN)
    again = from_plain(json.loads(json.dumps(as_plain(spec))))
    assert again == spec and again.fingerprint == spec.fingerprint
    assert hash(again) == hash(spec)


@pytest.mark.parametrize(
    "damage", [{"argv": "python"}, {"reading": {"kind": "jsonl"}}, {"reading": None}, {"env": [1]}]
)
def test_a_damaged_record_is_refused(damage: dict[str, Any]) -> None:
    plain = as_plain(stating(**GIVEN))
    plain["command"] = {**plain["command"], **damage}
    if damage == {"argv": "python"}:
        assert from_plain(plain).fingerprint != stating(**GIVEN).fingerprint
        return
    with pytest.raises(Refused, match=r"not a run specification|unknown|needs"):
        from_plain(plain)


@pytest.mark.parametrize(
    "other",
    [{"argv": ["python", "b.py"]}, {"env": {"WIDTH": "{depth}"}}, {"words": {}},
     {"metrics": {**GIVEN["metrics"], "unit": "nats_per_token"}}],
)  # fmt: skip
def test_what_is_computed_is_identity(other: dict[str, Any]) -> None:
    assert stating(**{**GIVEN, **other}).fingerprint != stating(**GIVEN).fingerprint
    assert stating(**GIVEN).fingerprint != make_spec().fingerprint


@pytest.mark.parametrize(
    "other",
    [{"machine_argv": []}, {"cwd": "/"}, {"timeout_minutes": None}, {"grace_seconds": 9}, {"outcomes": {}},
     {"requires": []}],
)  # fmt: skip
def test_what_is_of_the_machine_is_not(other: dict[str, Any]) -> None:
    assert stating(**{**GIVEN, **other}).fingerprint == stating(**GIVEN).fingerprint


def test_a_recipe_states_the_command_again() -> None:
    for given in (GIVEN, {"argv": ["x"], "metrics": {"keys": {"step": None, "loss": "train/loss"}}, "cwd": "/"}):
        spec = stating(**given)
        again = composed(*overrides_of(spec))
        assert again.command == spec.command
        assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"argv": []}, "trainer.argv is empty"),
        ({"argv": "python train.py --lr {lr}"}, "accepted is a list of words"),
        ({"argv": ["a\nb"]}, r"trainer.argv\[0\] holds the character '\\n'"),
        ({"argv": ["a\0b"]}, "holds the character"),
        ({"argv": ["x", None]}, r"trainer.argv\[1\]=None: accepted is text"),
        ({"argvs": ["x"]}, "did you mean 'argv'"),
        ({"env": {"A B": "x"}}, "the name of a variable"),
        ({"env": {"SCALELAB_ATTEMPT": "x"}}, "are ours"),
        ({"env": {"X": "a\nb"}}, "holds the character"),
        ({"env": {"WANDB_API_KEY": "abc"}}, "looks like a secret"),
        ({"env": {"HF_TOKEN": "{lr}"}}, "looks like a secret"),
        ({"env": {"DB_PASSWORD": "abc"}}, "looks like a secret"),
        ({"env": ["A=b"]}, "trainer.env.KEY=VALUE"),
        ({"metrics": {"kind": "csv"}}, "unknown trainer.metrics.kind 'csv'"),
        ({"metrics": {"result": "best"}}, "unknown trainer.metrics.result"),
        ({"metrics": {"unit": "bits"}}, "unknown trainer.metrics.unit"),
        ({"metrics": {"keys": {"los": "x"}}}, "did you mean 'loss'"),
        ({"metrics": {"keys": {"validation_loss": None}}}, "needs trainer.metrics.keys with 'validation_loss'"),
        ({"metrics": {"kind": "regex"}}, "needs a pattern with the group 'validation_loss'"),
        ({"metrics": {"kind": "regex", "patterns": [r"(?P<loss>\d+)"]}}, "result=last_training or min_training"),
        ({"metrics": {"kind": "regex", "patterns": ["(?P<loss>"]}}, "no regular expression of Python"),
        ({"metrics": {"kind": "regex", "patterns": [r"loss (\d+)"]}}, "reads no loss"),
        ({"metrics": {"kind": "regex", "patterns": [r"(?P<loss>\d) (?P<lr>\d)"]}}, "unknown group"),
        ({"metrics": {"kind": "regex", "patterns": [r"(?:\w+\s*)+(?P<loss>\d)"]}}, "which can take forever"),
        ({"metrics": {"kind": "regex", "patterns": [r"(?:a|aa)*(?P<loss>\d)"]}}, "which can take forever"),
        ({"metrics": {"kind": "regex", "patterns": [r"((?P<loss>[^(+]+)){2,}"]}}, "which can take forever"),
        ({"outcomes": {"300": "ok"}}, "accepted is an exit status"),
        ({"outcomes": {"1": "fine"}}, "unknown trainer.outcomes.1 'fine'"),
        ({"grace_seconds": -1}, "accepted is a number from 0"),
        ({"timeout_minutes": 0}, "accepted is a positive number"),
        ({"cwd": "/no/such/place"}, "a folder that is there"),
        ({"requires": [{"that": "x"}]}, "accepted is {that"),
        ({"words": {"style": {"wsd": "WSD"}}}, "by each value of NAME its text"),
    ],
)
def test_what_is_not_accepted_is_refused_in_one_line(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        stating(**keys)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "pattern",
    [r"step:\s+(?P<step>\d+)\s+loss:\s+(?P<loss>[\d.]+)", r"\(a\+\)\+ (?P<loss>\S+)", r"[(a+)]+ (?P<loss>\S+)"],
)
def test_usual_patterns_are_accepted(pattern: str) -> None:
    assert Reading(kind="regex", patterns=(pattern,), result="last_training").patterns == (pattern,)


def test_a_secret_of_the_environment_is_kept_out_of_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    with pytest.raises(Refused, match=r"trainer.argv\[1\] holds a secret of the environment") as refused:
        stating(argv=["train", "--key=0123456789abcdef"])
    assert "0123456789abcdef" not in str(refused.value)


def test_data_and_trainer_belong_together() -> None:
    with pytest.raises(Refused, match="data=embedded with trainer=command"):
        composed("trainer=command", "trainer.argv=[x]")
    with pytest.raises(Refused, match="data=external is read by a command"):
        composed("data=external", "data.dataset=x", "data.vocab=256")
    with pytest.raises(Refused, match="unknown trainer 'mine'"):
        command_of({"name": "mine"})
    with pytest.raises(Refused, match=r"unknown key trainer.*'argv'"):
        command_of({"name": "builtin", "argv": []})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.vocab=0"], "data.vocab=0: accepted is a positive number"),
        (["data.bytes_per_token=-1"], "data.bytes_per_token=-1"),
        (["data.dataset=' '"], "without data.dataset"),
        (["trainer.metrics.unit=bits_per_byte"], "without data.bytes_per_token"),
        (["data.vocab=null"], "without data.vocab"),
    ],
)
def test_a_corpus_of_somebody_else_is_checked(overrides: list[str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        composed(*EXTERNAL, "trainer.argv=[x]", *overrides)


def test_the_corpus_is_known_by_what_is_said_of_it() -> None:
    first = composed(*EXTERNAL, "trainer.argv=[x]")
    assert first.data.validation_tokens == 0 and first.shape.vocab == 256
    other = composed(*EXTERNAL, "trainer.argv=[x]", "data.dataset=tiny@2")
    assert other.data.sha256 != first.data.sha256
    assert isinstance(first.command, Command)
