"""A password is kept nowhere: it is refused where it is written, and read from the environment where it is needed."""

from pathlib import Path

import pytest

from scalelab.errors import Refused
from scalelab.search.problem import problem_of
from scalelab.searching.request import read_request, request_of
from tests.search.searching import LR, Searching
from tests.search.test_rolling import problem


@pytest.mark.parametrize(
    "given",
    [
        "hydra.sweeper.storage='postgresql+psycopg://me:s3cret@host/db'",
        "hydra.sweeper.storage='postgresql+psycopg://me:s3cret${oc.env:HOME}@host/db'",
        "hydra.sweeper.storage='postgresql+psycopg://me:${oc.env:PGPASS,s3cret}@host/db'",
        "hydra.sweeper.storage='postgresql+psycopg://host/db?user=me&password=s3cret'",
        "hydra.sweeper.warm_start=['postgresql+psycopg://me:s3cret@host/db#a']",
    ],
)
def test_a_literal_password_is_refused_in_one_line_that_does_not_hold_it(given: str) -> None:
    with pytest.raises(Refused, match=r"password.* \S*\$\{oc\.env:NAME\}") as said:
        problem(given)
    assert "s3cret" not in str(said.value) and "\n" not in str(said.value)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:${oc.env:SEARCH_PASSWORD}@host/db",
        "${oc.env:SEARCH_PASSWORD}",
        "postgresql+psycopg://me@host/db",
        "postgresql+psycopg:///db?host=/run/postgresql",
        "sqlite:////a/b:c@d.db",
    ],
)
def test_what_holds_no_password_is_kept_as_it_was_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_PASSWORD", "s3cret")
    assert problem(f"hydra.sweeper.storage='{url}'").settings.storage == url


def test_a_variable_that_is_not_set_is_one_line() -> None:
    with pytest.raises(Refused, match="SEARCH_PASSWORD"):
        problem("hydra.sweeper.storage='postgresql+psycopg://me:${oc.env:SEARCH_PASSWORD}@host/db'")


def test_a_storage_is_read_from_the_environment_where_it_is_opened(
    found: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", f"sqlite:///{Path.cwd()}/s3cret.db")
    given = [LR, "hydra.sweeper.storage='${oc.env:SEARCH_STORAGE}'", "hydra/sweeper/pruner=median"]
    found(*given, n_trials=2)
    assert Path("s3cret.db").exists() and len(found.specs) == 2
    for file in Path("runs").rglob("*"):
        assert file.is_dir() or "s3cret" not in file.read_text(), file
    assert "${oc.env:SEARCH_STORAGE}" in Path("runs/s/search.pruning.json").read_text()


def test_a_request_keeps_what_was_written_and_is_the_same_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_PASSWORD", "s3cret")
    url = "postgresql+psycopg://me:${oc.env:SEARCH_PASSWORD}@host/db"
    arguments = ["-m", "hydra/sweeper=optuna", "study=s", LR, f"hydra.sweeper.storage='{url}'"]
    request = request_of(arguments, workers=2)
    study = problem_of(request.asked).folder
    request.write(study)
    assert read_request(study) == request and request.directory == str(Path.cwd())
    assert "s3cret" not in (study / "search.request.json").read_text()
    assert problem_of(read_request(study).asked).settings.storage == url


def test_a_request_that_is_none_is_one_line() -> None:
    with pytest.raises(Refused, match=r"has no search\.request\.json"):
        read_request(Path("runs/nowhere"))
    Path("search.request.json").write_text("{")
    with pytest.raises(Refused, match="is corrupt"):
        read_request(Path())
    with pytest.raises(Refused, match="accepted is a search, add hydra/sweeper=optuna"):
        assert request_of(["lr=0.1,0.2"], workers=1).asked
