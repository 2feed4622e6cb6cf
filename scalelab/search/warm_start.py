"""Runs from elsewhere → trials that a search begins with: those in its space, of its configuration, each once."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import FrozenTrial, TrialState, create_trial

from scalelab.errors import Refused
from scalelab.overrides import overrides_of
from scalelab.readers.optuna_study import open_study, shown
from scalelab.search.objectives import told
from scalelab.search.problem import Problem
from scalelab.search.space import written
from scalelab.search_views import WARM
from scalelab.spec import RunSpec, as_plain
from scalelab.trials import FINAL, Outcome, RunFolder, Trial, run_folders


@dataclass(frozen=True, kw_only=True)
class Warm:
    """What can be told to begin with, and how much was left out for which reasons."""

    trials: tuple[FrozenTrial, ...]
    left_out: Mapping[str, int]


class _LeftOut(Exception):
    """Why one setting is not told."""


def warm_start(problem: Problem, study: optuna.Study | None) -> Warm:
    """The trials of the settings' `warm_start` that are not in the study yet.

    Run folders count where all but the searched keys and the seed is as in the problem; trials of another Optuna study
    where they have the space's parameters, and if it was one of ours, its configuration.

    Raises:
        Refused: on a source that is absent, empty, or cannot be read.
    """
    known = {name for trial in study.get_trials(deepcopy=False) for name in _names(trial)} if study else set()
    trials: list[FrozenTrial] = []
    left_out: dict[str, int] = {}
    for source in problem.settings.warm_start:
        for setting in _settings(source):
            if known.isdisjoint(setting.names):
                try:
                    trials.append(setting.trial(problem))
                    known |= set(setting.names)
                except _LeftOut as why:
                    left_out[str(why)] = left_out.get(str(why), 0) + 1
    return Warm(trials=tuple(trials), left_out=left_out)


def _names(trial: FrozenTrial) -> list[str]:
    """Of the runs behind a trial, and of what it was told from."""
    return [*trial.user_attrs.get("fingerprint", "").split(), trial.user_attrs.get(WARM, "")]


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Run folders that differ in nothing but the seed."""

    trials: tuple[Trial, ...]
    names: tuple[str, ...]

    def trial(self, problem: Problem) -> FrozenTrial:
        spec = self.trials[0].spec
        params = _accepted(problem, _stated(problem, spec))
        _same(problem.spec(params), spec)
        return _told(problem, params, self.trials, origin=self.names[0])


@dataclass(frozen=True, kw_only=True)
class _Told:
    """A trial of another study."""

    of: FrozenTrial
    names: tuple[str, ...]

    def trial(self, problem: Problem) -> FrozenTrial:
        if strange := sorted(set(self.of.params) - set(problem.space.distributions)):
            raise _LeftOut(f"{strange[0]} was searched there and is not here")
        params = _accepted(problem, self.of.params)
        attributes = self.of.user_attrs
        spec = problem.spec(params)
        seeds = attributes.get("seeds", [])
        if seeds and " ".join(replace(spec, seed=seed).fingerprint for seed in seeds) != attributes.get("fingerprint"):
            raise _LeftOut("another configuration than the one that is searched")
        loss = attributes.get("loss_nats", (self.of.values or [math.inf])[0])
        ok = math.isfinite(loss)
        seen = Trial(
            spec=spec, outcome=Outcome.OK if ok else Outcome.DIVERGED, loss_nats=loss if ok else None,
            seconds=attributes.get("seconds", math.nan),
        )  # fmt: skip
        if "seconds" in problem.settings.objectives and "seconds" not in attributes:
            raise _LeftOut("seconds are minimised and were not kept there")
        return _told(problem, params, [seen], origin=self.names[0], fingerprint=attributes.get("fingerprint", ""))


def _settings(source: str) -> Iterator[_Runs | _Told]:
    """What a source holds that has ended."""
    folder = Path(source)
    if folder.is_dir():
        alike: dict[str, list[Trial]] = {}
        for run in map(RunFolder.read, run_folders(folder)):
            if run.outcome in FINAL:
                alike.setdefault(replace(run.spec, seed=0).fingerprint, []).append(run)
        if not alike:
            raise Refused(f"warm_start={source}: no finished run in it or below")
        for runs in alike.values():
            runs.sort(key=lambda run: run.spec.seed)
            yield _Runs(trials=tuple(runs), names=tuple(run.spec.fingerprint for run in runs))
        return
    study = open_study(source)
    if study.directions[0] is not optuna.study.StudyDirection.MINIMIZE:
        raise Refused(f"warm_start={source}: study {study.study_name!r} maximizes, and a loss is minimized")
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.COMPLETE or trial.user_attrs.get("outcome") == Outcome.DIVERGED:
            own = (f"{shown(source)}/{trial.number}", *filter(None, _names(trial)))
            yield _Told(of=trial, names=own)


def _stated(problem: Problem, spec: RunSpec) -> dict[str, Any]:
    """What a run says of the searched keys, as a configuration would."""
    overrides = OverridesParser.create().parse_overrides([*overrides_of(spec), f"seed={spec.seed}"])
    values = {override.key_or_group: written(override.value()) for override in overrides}
    for key in problem.space.distributions:
        if key.lstrip("+") not in values:
            raise _LeftOut(f"{key} cannot be read off a run")
    return {key: values[key.lstrip("+")] for key in problem.space.distributions}


def _accepted(problem: Problem, params: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for parameter in problem.space.parameters:
        if parameter.key not in params:
            raise _LeftOut(f"{parameter.key} was not searched there")
        value = parameter.accepted(params[parameter.key])
        if value is None:
            raise _LeftOut(f"outside the space of {parameter}")
        found[parameter.key] = value
    return found


def _same(here: RunSpec, there: RunSpec) -> None:
    """The two are one but for their seed."""
    if replace(here, seed=0).fingerprint != replace(there, seed=0).fingerprint:
        ours, theirs = as_plain(here), as_plain(there)
        differ = next((name for name in ours if name != "seed" and ours[name] != theirs[name]), "parametrization table")
        raise _LeftOut(f"another {differ} than the one that is searched")


def _told(
    problem: Problem, params: Mapping[str, Any], trials: Iterable[Trial], *, origin: str, fingerprint: str | None = None
) -> FrozenTrial:
    found = told(tuple(trials))
    assert found.values is not None
    attributes = {**found.attributes, WARM: origin}
    return create_trial(
        params=dict(params),
        distributions=problem.space.distributions,
        values=[found.values[name] for name in problem.settings.objectives],
        user_attrs=attributes if fingerprint is None else attributes | {"fingerprint": fingerprint},
    )
