"""The sweeper of `scalelab train -m`: Hydra's grid, of which only the runs that are not finished are launched.

Hydra 1.3 looks for sweepers in this namespace package and nowhere else. The plan has composed and checked every run, so
nothing is composed a second time here, and a finished run's folder is not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class PlannedSweeperConf:
    """`params` is a study's grid: key → values separated by commas, as in Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.scalelab_sweeper.PlannedSweeper"
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="scalelab", node=PlannedSweeperConf, provider="scalelab")


class PlannedSweeper(Sweeper):
    """Launches the missing runs of a plan, in its order, as one batch."""

    def __init__(self, params: dict[str, str]) -> None:
        self.params = params  # read by the plan, from the configuration
        self.config: DictConfig
        self.launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs and raise the first error among them, after all have ended."""
        from scalelab.launch import PLANNED
        from scalelab.plan import plan

        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        asked = [*OmegaConf.to_container(self.config.hydra.overrides.hydra), *arguments]  # type: ignore[misc]
        planned = PLANNED.get() or plan(asked, multirun=True)
        jobs = [list(run.task_overrides) for run in planned.missing]
        returned = self.launcher.launch(jobs, initial_job_idx=0)
        for each in returned:
            _ = each.return_value  # raises what the job raised
        return returned
