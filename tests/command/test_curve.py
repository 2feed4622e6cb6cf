"""The curve of a command: what it says last counts, and a loss is that of the end or none."""

import pytest

from scalelab.command.curve import Curve
from scalelab.command.outcome import result
from scalelab.command.reading import Seen
from tests.command.commanding import stating


def curve_of(*said: Seen, **metrics: str) -> Curve:
    curve = Curve(spec=stating(metrics=metrics))
    for seen in said:
        list(curve.put(seen, seconds=1.0))
    return curve


def found(*said: Seen, **metrics: str) -> tuple[float | None, str]:
    curve = curve_of(*said, **metrics)
    return result(curve.spec, curve)


def train(step: int | None, loss: float = 3.0) -> Seen:
    return Seen(step=step, loss=loss)


def valid(step: int | None, loss: float = 2.0) -> Seen:
    return Seen(step=step, validation_loss=loss)


@pytest.mark.parametrize("step", [9, 10, 11, None])
def test_a_validation_at_the_end_is_the_result(step: int | None) -> None:
    assert found(train(0), valid(5, 9.0), train(9), valid(step, 2.5)) == (2.5, "")


def test_one_before_the_end_is_none() -> None:
    loss, missing = found(train(0), valid(8))
    assert loss is None and missing == "the last validation loss found is of step 8 of 10, not of the end"
    assert found(train(9))[1] == "no validation loss was found"


def test_a_validation_of_an_earlier_launch_is_forgotten_when_training_is_begun_again() -> None:
    assert found(train(8), train(9), valid(10), train(4))[0] is None
    assert found(train(8), train(9), valid(10, 9.0), train(4), train(9), valid(10, 2.5)) == (2.5, "")


def test_one_that_ended_and_says_nothing_more_keeps_what_it_said() -> None:
    assert found(train(9), valid(10, 2.5)) == (2.5, "")
    assert found(train(9), valid(9, 2.5)) == (2.5, "")  # counted from 0


def test_a_training_loss_may_be_an_interval_from_the_end() -> None:
    assert found(train(0, 5.0), train(4, 2.0), train(8, 2.5), result="last_training") == (2.5, "")
    assert found(train(0, 5.0), train(4, 2.0), train(8, 2.5), result="min_training") == (2.0, "")
    assert found(train(0, 5.0), train(2, 2.0), train(4, 2.5), result="last_training")[0] is None
    assert found(train(None, 5.0), train(None, 4.0), result="last_training") == (4.0, "")


def test_steps_follow_tokens_where_those_are_told() -> None:
    curve = curve_of(Seen(tokens=128, loss=3.0))
    assert (curve.step, curve.tokens) == (2, 128)


def test_a_record_is_as_those_of_runs_of_scalelab() -> None:
    curve = Curve(spec=stating())
    (first,) = curve.put(Seen(step=3, loss=2.0), seconds=1.5)
    assert first == {"step": 3, "tokens": 192, "loss_nats": 2.0, "seconds": 1.5,
                     "lr": curve.spec.hparams.lr * curve.spec.horizon.lr_factor(3)}  # fmt: skip
    (second,) = curve.put(Seen(step=4, validation_loss=1.5), seconds=2.0)
    assert second["loss_nats"] == 2.0 and second["validation_loss_nats"] == 1.5
    assert list(curve.put(Seen(step=5), seconds=2.0)) == []
