"""The sweeper of `hydra/sweeper=optuna`: its batches are asked, launched and told in `scalelab.search`.

Hydra 1.3 looks for sweepers in this namespace package and nowhere else, and imports it whenever it starts: Optuna waits
until there is a search. The settings are those of conf/hydra/sweeper/optuna.yaml.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class OptunaSweeper(Sweeper):
    """Runs a search through Hydra's launcher, a batch at a time."""

    def __init__(self, **_: Any) -> None:  # the search reads its settings from the configuration
        self.config: DictConfig
        self.launcher: Launcher
        self.launched = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search to the end. A mistake of the user's that only shows then ends the program with its one line."""
        from scalelab.answering import console
        from scalelab.console import say
        from scalelab.errors import Refused
        from scalelab.plan import swept
        from scalelab.search.loop import search
        from scalelab.search.problem import problem_of
        from scalelab.search.works import Here

        asked = [*OmegaConf.to_container(self.config.hydra.overrides.hydra), *arguments]  # type: ignore[misc]
        try:
            problem = problem_of(swept(asked))
            try:
                problem.folder.mkdir(parents=True, exist_ok=True)
                OmegaConf.save(self.config, problem.folder / "multirun.yaml")
            except OSError as error:
                raise Refused(f"{problem.folder} cannot be written to: {error.strerror}") from None
            works, most = Here(self.launch), problem.settings.n_jobs
            search(problem, works, lambda line: say(console, line), most=most, together=True)
        except Refused as refused:
            raise SystemExit(refused) from None

    def launch(self, jobs: Sequence[Sequence[str]]) -> None:
        """Run jobs, numbered on from those before; a job that fails leaves that in its folder."""
        self.launcher.launch(jobs, initial_job_idx=self.launched)
        self.launched += len(jobs)
