"""Templates: a name is looked up, and that is all."""

import pytest

from scalelab.command.templates import Names, filled
from scalelab.errors import Refused

NAMES = Names(
    values={"lr": 0.1 + 0.2, "steps": 100, "lr.hidden": 0.01, "clip_norm": None, "odd": "a\nb", "model.biases": True,
            "init_std.hidden.up": 0.5, "init_std.hidden.down": 0.25, "name": "mup"},
    finer={"init_std.hidden": ("init_std.hidden.up", "init_std.hidden.down")},
)  # fmt: skip


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("--lr={lr}", "--lr=0.30000000000000004"),
        ("{lr:.3g}", "0.3"),
        ("{steps:06d}/{lr.hidden:.1e}", "000100/1.0e-02"),
        ("{{lr}} {model.biases}", "{lr} true"),
        ("$(rm -rf /); `ls` && {name} | 'x'", "$(rm -rf /); `ls` && mup | 'x'"),
        ("", ""),
    ],
)
def test_a_template_is_filled(template: str, text: str) -> None:
    assert filled(template, NAMES, "argv[1]") == text


def test_a_number_is_read_back_exactly() -> None:
    assert float(filled("{lr}", NAMES, "argv[1]")) == NAMES.values["lr"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{lrr}", r"no value is named \{lrr\}: did you mean \{lr\}"),
        ("{lr.hiden}", r"did you mean \{lr.hidden\}"),
        ("{qqqqqq}", "names are keys of conf/train.yaml"),
        ("{init_std.hidden}", r"say which: \{init_std.hidden.up\} 0.5, \{init_std.hidden.down\} 0.25"),
        ("{clip_norm}", "has no value in this run"),
        ("{odd}", "holds the character"),
        ("{lr", "stray '{'"),
        ("lr}", "stray '}'"),
        ("{}", "accepted is"),
        ("{0}", "accepted is"),
        ("{lr.__class__}", "no value is named"),
        ("{lr.hidden.__globals__}", "no value is named"),
        ("{lr[0]}", "accepted is"),
        ("{lr!r}", "accepted is"),
        ("{lr:{steps}}", "stray"),
        ("{lr:999999999d}", "is none of numbers"),
        ("{lr:d}", "does not fit"),
        ("{name:.3f}", "does not fit"),
    ],
)
def test_what_is_no_template_is_refused(template: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        filled(template, NAMES, "trainer.argv[3]")
    assert "\n" not in str(refused.value) and str(refused.value).startswith("trainer.argv[3]")
