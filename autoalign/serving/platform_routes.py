"""All routes of jobs, files and models over one platform: what an endpoint mounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from sqlalchemy.exc import OperationalError

from autoalign.jobs.platform import Platform
from autoalign.jobs.references import Served
from autoalign.jobs.runners.base import Runner
from autoalign.jobs.settings import Settings
from autoalign.jobs.states import STATES
from autoalign.jobs.watcher import Watcher
from autoalign.serving.batch_routes import batch_router
from autoalign.serving.file_routes import file_router
from autoalign.serving.fine_tuning_routes import fine_tuning_router
from autoalign.serving.job_routes import job_router
from autoalign.serving.model_routes import model_router
from autoalign.serving.row_routes import row_router
from autoalign.serving.submission import Submission, TemplateOf, no_template


def platform_routers(platform: Platform, template_of: TemplateOf = no_template) -> list[APIRouter]:
    """The routers, for `FastAPI.include_router`. They expect `RequireToken` around the application.

    Args:
        template_of: the chat template that the endpoint serves a model with; None: its folder's own.
    """
    submit = Submission(platform, template_of)
    jobs = [make(platform, submit) for make in (job_router, fine_tuning_router, batch_router)]
    return [*jobs, *(make(platform) for make in (model_router, file_router, row_router))]


@dataclass(frozen=True)
class LivePlatform:
    """A platform, and what looks after its jobs."""

    platform: Platform
    watcher: Watcher

    def stop_jobs(self) -> int:
        """End the jobs that are processes of this machine; they save what they have. How many there were.

        The platform that is started next goes on with them. They get the runner's patience to end.
        """
        from autoalign.jobs.runners.local import LocalRunner

        self.watcher.stop()  # or it would start them again at once
        runner = self.platform.runner
        return runner.stop_all() if isinstance(runner, LocalRunner) else 0


def start_platform(settings: Settings, served: Served, ray_jobs_address: str | None = None) -> LivePlatform:
    """Open a platform and look after its jobs in a thread.

    Args:
        served: the folder of a model that is served to everybody, by its id: jobs may begin from it.
        ray_jobs_address: a head's dashboard, such as http://127.0.0.1:8265; `auto`: of the cluster
            that this process has joined; None: jobs are processes of this machine.
    """
    platform = Platform.open(settings, _runner(ray_jobs_address), served)
    watcher = Watcher(platform)
    watcher.start()
    return LivePlatform(platform, watcher)


def job_counts(platform: Platform) -> Callable[[], dict[str, int] | None]:
    """What tells how many jobs are in each state; None while the database does not answer."""

    def counts() -> dict[str, int] | None:
        try:
            found = platform.jobs.counts()
        except OperationalError:
            return None
        return {state: found.get(state, 0) for state in STATES}

    return counts


def _runner(address: str | None) -> Runner:
    if address is None:
        from autoalign.jobs.runners.local import LocalRunner

        return LocalRunner()
    from autoalign.jobs.runners.ray import RayRunner

    return RayRunner(_joined() if address == "auto" else address)


def _joined() -> str:
    """The Ray cluster of this process; Ray's own client finds its dashboard."""
    import ray

    return str(ray.get_runtime_context().gcs_address)
