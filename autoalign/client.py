"""A running platform from Python.

client = autoalign.Client("http://127.0.0.1:8000", token)
job = client.submit("sft", {"model_name_or_path": "smollm2-135m-instruct", "data_path": ["file-..."]})
for text in client.logs(job.id, follow=True):
    print(text, end="")
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from autoalign.errors import ConfigError, JobFailed, MissingDependency

if TYPE_CHECKING:
    import httpx

URL_VARIABLE = "AUTOALIGN_URL"
TOKEN_VARIABLE = "AUTOALIGN_TOKEN"  # noqa: S105 - its name, not a token
DEFAULT_URL = "http://127.0.0.1:8000"
FINAL = frozenset({"succeeded", "failed", "cancelled", "lost"})


@dataclass(frozen=True)
class Job:
    """A job as the platform shows it.

    Attributes:
        state: queued, running, paused, succeeded, failed, cancelled or lost.
        intent: `cancel` or `pause` until that has come about.
        message: why it failed, or what it waits for.
        model: the id of the model that it has made.
        created_at, started_at, finished_at: Unix seconds.
    """

    id: str
    kind: str
    state: str
    intent: str
    owner: str
    message: str
    exit_code: int | None
    attempt: int
    model: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    config: Mapping[str, Any]

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in FINAL


@dataclass(frozen=True)
class Model:
    """A registered model; `served_as` are the names that mean it now."""

    id: str
    job_id: str
    parent: str
    created_at: int
    served_as: list[str]


class Client:
    """Jobs, files and models of a platform. Use it in a `with`, or `close` it."""

    def __init__(self, url: str | None = None, token: str | None = None, timeout: float = 60.0) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            url: the platform; None: AUTOALIGN_URL, else this machine's port 8000.
            token: made by `autoalign-cli tokens create`; None: AUTOALIGN_TOKEN.
            timeout: seconds to wait for an answer.

        Raises:
            ConfigError: the URL is none.
        """
        try:
            import httpx
        except ImportError:
            raise MissingDependency("the client needs httpx: pip install httpx") from None
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"'{self.url}' is no URL of a platform: http://HOST:8000 is expected")
        token = token or os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; jobs go on."""
        self._http.close()

    def submit(self, kind: str, config: Mapping[str, Any]) -> Job:
        """Queue a job of a kind (`sft`, `dpo`, `sample`, ...; `/api/kinds` lists them).

        Raises:
            ConfigError: the platform refuses the config; the message names the key.
            JobFailed: the platform does not answer.
        """
        return _job(self._json("POST", "/api/jobs", json={"kind": kind, "config": dict(config)}))

    def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return _job(self._json("GET", f"/api/jobs/{job_id}"))

    def jobs(self, *, kind: str | None = None, state: str | None = None) -> Iterator[Job]:
        """Your jobs, the newest first."""
        query = {"kind": kind, "state": state}
        yield from map(_job, self._pages("/api/jobs", {key: value for key, value in query.items() if value}))

    def stop(self, job_id: str) -> Job:
        """Cancel a job; its last checkpoint stays."""
        return _job(self._json("POST", f"/api/jobs/{job_id}/stop"))

    def pause(self, job_id: str) -> Job:
        """Stop a job so that it can go on later."""
        return _job(self._json("POST", f"/api/jobs/{job_id}/pause"))

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on."""
        return _job(self._json("POST", f"/api/jobs/{job_id}/resume"))

    def wait(self, job_id: str, every: float = 2.0) -> Job:
        """Wait until a job has ended, or was paused."""
        while not (job := self.job(job_id)).is_over and job.state != "paused":
            time.sleep(every)
        return job

    def logs(self, job_id: str, *, follow: bool = False) -> Iterator[str]:
        """What a job has printed, in pieces; with `follow` until it has ended."""
        import httpx

        patient = httpx.Timeout(60.0, read=None)
        query = {"follow": str(follow).lower()}
        try:
            with self._http.stream(
                "GET", f"/api/jobs/{job_id}/logs", params=query, timeout=patient
            ) as answer:
                if answer.is_error:
                    answer.read()
                    self._refuse(answer)
                yield from answer.iter_text()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def metrics(self, job_id: str) -> Iterator[dict[str, Any]]:
        """A job's logged figures, in order."""
        start = 0
        while rows := (page := self._figures(job_id, start))["data"]:
            yield from rows
            start = page["next"]

    def upload(self, path: str | Path, purpose: str = "fine-tune") -> str:
        """Upload a file; the id to name it by in a config.

        Raises:
            ConfigError: there is no such file, or the platform refuses it.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                sent = {"file": (path.name, file, "application/octet-stream")}
                made = self._json("POST", "/v1/files", files=sent, data={"purpose": purpose}, timeout=None)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        return str(made["id"])

    def models(self) -> Iterator[Model]:
        """The models that your jobs have made, the newest first."""
        yield from map(_model, self._pages("/api/models", {}))

    def promote(self, model_id: str, name: str | None = None) -> Model:
        """Point a served name at a model."""
        body = {"name": name} if name else {}
        return _model(self._json("POST", f"/api/models/{model_id}/promote", json=body))

    def rollback(self, name: str) -> Model:
        """Point a served name back at what it meant before."""
        return _model(self._json("POST", f"/api/models/{name}/rollback"))

    def _figures(self, job_id: str, start: int) -> Any:
        return self._json("GET", f"/api/jobs/{job_id}/metrics", params={"start": start, "limit": 1000})

    def _pages(self, path: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        after: dict[str, Any] = {}
        while True:
            page = self._json("GET", path, params={"limit": 100, **query, **after})
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["data"][-1]["id"]}

    def _json(self, method: str, path: str, **given: Any) -> Any:
        import httpx

        try:
            answer = self._http.request(method, path, **given)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            self._refuse(answer)
        return answer.json()

    def _unreachable(self, error: Exception) -> JobFailed:
        return JobFailed(
            f"no platform answers at {self.url} ({error}); is it running? see --url, {URL_VARIABLE}"
        )

    def _refuse(self, answer: httpx.Response) -> None:
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = answer.text[:500]
        if answer.status_code == 401:
            message += f" (autoalign-cli tokens create makes one; put it into {TOKEN_VARIABLE})"
        kind = JobFailed if answer.status_code >= 500 else ConfigError
        raise kind(f"{self.url} answers {answer.status_code}: {message}")


def _job(shown: Mapping[str, Any]) -> Job:
    return Job(**{field.name: shown[field.name] for field in fields(Job)})


def _model(shown: Mapping[str, Any]) -> Model:
    return Model(**{field.name: shown[field.name] for field in fields(Model)})
