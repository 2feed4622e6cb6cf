"""The launcher of `hydra/launcher=slurm` and its like: jobs are trained by an engine, elsewhere, and waited for.

Hydra 1.3 looks for launchers in this namespace package and nowhere else, and imports it whenever it starts: what does
the work is imported when it was chosen. The settings are those of conf/hydra/launcher/slurm.yaml, for one.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class EngineLauncher(Launcher):
    """Hands populations of jobs to the engine of this name, see `scalelab.engines`."""

    def __init__(self, engine: str, **settings: Any) -> None:
        self.engine, self.settings = engine, settings
        self.config: DictConfig
        self.hydra_context: HydraContext

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context  # the task is known: `scalelab.jobs.run_jobs`

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each has its JobReturn, COMPLETED with its loss or FAILED with what was raised.

        What the engine does not take ends the program with its one line.
        """
        from scalelab.engines import engine_of
        from scalelab.engines.launching import launched
        from scalelab.engines.settings import settings_of
        from scalelab.errors import Refused

        try:
            return launched(
                job_overrides,
                engine_of({"engine": self.engine, **self.settings}),
                settings_of(self.settings),
                name=self.engine,
                loader=self.hydra_context.config_loader,
                config=self.config,
                first=initial_job_idx,
            )
        except Refused as refused:
            raise SystemExit(refused) from None
