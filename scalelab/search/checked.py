"""What a pruner does not accept of a search, before a run is paid for; and what is to be known of one that it does."""

from collections.abc import Iterator
from dataclasses import replace

from optuna.samplers import BaseSampler

from scalelab.errors import Refused
from scalelab.pruners.curve import CurvePruner
from scalelab.samplers.law.sampler import LawSampler
from scalelab.search.problem import Problem
from scalelab.search.rule import Rule, rule_of
from scalelab.search.sampler import COSTED, innermost
from scalelab.spec import RunSpec
from scalelab.trunks import shared_steps

STEADY = ("constant", "wsd")  # schedules whose learning rate is the same at a rung as in any longer run


def check_pruner(problem: Problem, sampler: BaseSampler) -> None:
    """Refuse a search whose pruner would compare what cannot be compared, or could stop nothing.

    Raises:
        Refused: on several objectives, horizons or scales, too few seeds, a schedule that cannot be gone on with, and
            on arguments of the pruner's.
    """
    settings, name = problem.settings, problem.settings.pruner_name
    spec = problem.spec({})
    rule = rule_of(settings.pruner, spec.horizon.tokens)
    if rule is None:
        return
    if str(settings.sampler["_target_"]) in COSTED:
        raise Refused(
            f"{settings.sampler_name} with pruner {name}: it learns a loss and a cost of every run, and one that is"
            " stopped has no loss; leave the pruner out, or take tpe or gp"
        )
    if len(settings.objectives) > 1:
        raise Refused(
            f"pruner {name} with objectives {', '.join(settings.objectives)}: Optuna stops trials of one objective"
            " only; set hydra.sweeper.objectives=[loss_nats]"
        )
    if isinstance(law := innermost(sampler), LawSampler) and law.scales:
        raise Refused(
            f"{settings.sampler_name} with pruner {name}: it learns from what small runs end at, which are just those"
            " that lose against larger ones; leave the pruner out"
        )
    if rule.deepens and isinstance(innermost(sampler), LawSampler):
        raise Refused(
            f"{settings.sampler_name} with pruner {name}: it takes the losses of all horizons for those of one; take"
            " hyperband, or another sampler"
        )
    rule.check_seeds(len(problem.tuning_seeds))
    horizons = {
        problem.spec({parameter.key: end}).horizon.tokens
        for parameter in problem.space.parameters
        for end in parameter.ends
    }
    if rule.asks_runs and len(horizons) > 1:
        raise Refused(
            f"pruner {name} with horizons of {min(horizons)} to {max(horizons)} tokens: it compares runs at equal"
            " tokens of one horizon; search at one value of tokens"
        )
    if rule.deepens:
        _check_deepening(spec, rule)


def _check_deepening(spec: RunSpec, rule: Rule) -> None:
    horizon = spec.horizon
    if horizon.schedule not in STEADY:
        raise Refused(
            f"pruner idhb with schedule={horizon.schedule}: runs go on to a larger horizon, and theirs has fallen by"
            " then; accepted are constant and wsd, try horizon=branch or hyperband"
        )
    eta = int(rule.arguments["reduction_factor"])
    if not shared_steps(replace(spec, horizon=replace(horizon, tokens=eta * horizon.tokens)), spec):
        raise Refused(
            f"pruner idhb: a run to {eta * horizon.tokens} tokens begins otherwise than one to {horizon.tokens}, and"
            " could not go on with it; try warmup_fraction=0 with warmup_tokens, and no base.tokens"
        )


def notes(problem: Problem, rule: Rule, sampler: BaseSampler) -> Iterator[str]:
    """What is to be known of a rule that is accepted, a line each."""
    schedule = problem.spec({}).horizon.schedule
    if rule.asks_runs and schedule != "constant":
        yield (
            f"schedule={schedule}: before the learning rate has fallen, large ones look worse than they will end, and"
            f" {rule.name} favours small ones"
        )
    if rule.deepens and schedule == "wsd":
        yield (
            "schedule=wsd: what ended at a horizon has decayed there, what passes it later has not; after a raise of"
            " tokens the old runs look better than new ones, and those that ended begin anew; constant has neither"
        )
    if rule.deepens:
        yield "idhb keeps the checkpoint of every run, so that it can be gone on with"
    pruner = rule.pruner()
    if isinstance(pruner, CurvePruner):
        least = pruner._min_trials
        yield (
            f"curve calibrates on the first {least} trials that end, and stops none of them"
            + ("; n_trials is no more: nothing will be stopped" if problem.settings.n_trials <= least else "")
        )
    if isinstance(innermost(sampler), LawSampler):
        yield "LawSampler learns nothing from a trial that was stopped"
    if rule.asks_runs and len(problem.tuning_seeds) > 1:
        yield f"a trial is judged by its first seed; the other {len(problem.tuning_seeds) - 1} are run if it goes on"
