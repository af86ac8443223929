"""Runs as Ray Jobs: the cluster's head starts the process, and tells how it is."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from autoalign.errors import MissingDependency
from autoalign.jobs.runners.base import PACKAGE_ROOT, Phase, Run, RunnerUnreachable, Status

# Seconds between SIGTERM and SIGKILL; Ray's own 3 are too few for a checkpoint's last write.
_STOP_SECONDS = "15"
# Seconds for a connection, and between two pieces of an answer: a head that is frozen accepts and is silent.
_PATIENCE = (5.0, 30.0)
_PHASES: dict[str, Phase] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
T = TypeVar("T")


class RayRunner:
    """Ray Jobs at a head's dashboard address, such as http://127.0.0.1:8265.

    Args:
        address: that, or the cluster's own HOST:PORT, from which Ray finds it.
        headers: sent with every request. Ray's client adds the token of its environment by itself, but
            reads it once in a process: a process that has been in another cluster gives its own here.
    """

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self._address, self._headers = address, dict(headers or {})
        self._client: Any = None
        self._lock = threading.Lock()

    def submit(self, run: Run) -> None:
        """Submit the run under its own id, which Ray takes but once."""
        entrypoint = shlex.join(run.argv)
        # A job's supervisor reads from its environment how long it waits; the job finds this AutoAlign.
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": _STOP_SECONDS, "PYTHONPATH": str(PACKAGE_ROOT)}

        def ask(client: Any) -> None:
            if _details(client, run.id) is None:
                client.submit_job(
                    entrypoint=entrypoint, submission_id=run.id, runtime_env={"env_vars": variables}
                )

        self._ask(ask)

    def status(self, run_id: str) -> Status:
        """What the cluster knows of the run."""
        details = self._ask(lambda client: _details(client, run_id))
        if details is None:
            return Status("unknown")
        phase = _PHASES[str(details.status.value)]
        return Status(phase, details.driver_exit_code, details.message or "")

    def stop(self, run_id: str) -> None:
        """Ray ends the run's process and its children, with SIGKILL in the end."""

        def ask(client: Any) -> None:
            if _details(client, run_id) is not None:
                client.stop_job(run_id)

        self._ask(ask)

    def close(self) -> None:
        """Jobs go on."""

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return question(self._connected())
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            # Ray's client raises RuntimeError for what it did not expect, ValueError without a dashboard,
            # an OSError of `requests` where the answer takes too long.
            with self._lock:
                self._client = None
            raise RunnerUnreachable(f"the Ray cluster at {self._address} does not answer: {error}") from None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client_class()(self._address, headers=self._headers)
            return self._client


def _client_class() -> Any:
    """Ray's client, which by itself would wait for an answer for ever."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise MissingDependency("jobs on a cluster need Ray: pip install 'autoalign[serve]'") from None

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **values: Any) -> Any:
            return super()._do_request(method, endpoint, **{"timeout": _PATIENCE, **values})

    return Client


def _details(client: Any, run_id: str) -> Any:
    """What the cluster keeps of a run; None where it knows none of this id."""
    try:
        return client.get_job_info(run_id)
    except RuntimeError as error:
        if f"{run_id} does not exist" in str(error):
            return None
        raise
