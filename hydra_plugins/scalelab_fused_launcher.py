"""The launcher of `hydra/launcher=fused`: groups the jobs of a batch by program and trains them in warm local workers.

Hydra 1.3 looks for launchers in this namespace package and nowhere else, and imports it whenever it starts: what does
the work is imported when it was chosen. The settings are those of conf/hydra/launcher/fused.yaml.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class FusedLauncher(Launcher):
    """Trains populations of jobs in the processes of `scalelab.workers`, which outlive a batch."""

    def __init__(self, workers: int | None = None, members: int | None = None, retries: int = 1) -> None:
        self.workers, self.members, self.retries = workers, members, retries
        self.config: DictConfig
        self.hydra_context: HydraContext

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from scalelab.workers.pool import warm

        self.config, self.hydra_context = config, hydra_context  # the task is known: `scalelab.jobs.run_jobs`
        warm()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each has its JobReturn, COMPLETED with its loss or FAILED with what was raised."""
        from scalelab.workers.launching import Settings, launched

        settings = Settings.of(workers=self.workers, members=self.members, retries=self.retries)
        return launched(
            job_overrides,
            settings,
            loader=self.hydra_context.config_loader,
            config=self.config,
            first=initial_job_idx,
        )
