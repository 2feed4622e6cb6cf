"""What escapes Hydra is told once, and as what it is."""

import errno
import os
import signal

import pytest
from hydra.errors import ConfigCompositionException

from scalelab.errors import Refused
from scalelab.hydra_errors import RAISE, told


def _write_yaml_and_be_interrupted() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("what a library in C makes of it") from None


def test_an_interruption_that_comes_out_as_an_error_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAISE, raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts with &
    try:
        with pytest.raises(KeyboardInterrupt), told():
            _write_yaml_and_be_interrupted()
        assert RAISE not in os.environ and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a"),
         "scalelab: cannot read or write /runs/a: No space left on device\n"),
        (Refused("width=3: no"), "scalelab: width=3: no\n"),
        (ConfigCompositionException("no such key"), "no such key\n"),
    ],
)  # fmt: skip
def test_what_is_no_bug_takes_a_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, told():
        raise error
    assert ended.value.code == 1 and capsys.readouterr().err == said


def test_a_bug_comes_with_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(RAISE, "0")
    with pytest.raises(SystemExit), told():
        raise ZeroDivisionError("ours")
    text = capsys.readouterr().err
    assert "Traceback" in text and text.endswith("ZeroDivisionError: ours\n") and os.environ[RAISE] == "0"


def test_where_interruptions_are_ignored_they_stay_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with told():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
