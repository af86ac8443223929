"""`serve`: the endpoint for as long as this process lives."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from autoalign import model_folder
from autoalign.cluster import ray_session
from autoalign.config.serve import ServeConfig
from autoalign.errors import ConfigError, JobFailed

_LOOK_EVERY = 0.2  # seconds
_JOBS_END = 60.0
Say = Callable[[str], None]


def run(config: ServeConfig, say: Say = print) -> int:
    """Serve until Ctrl-C or SIGTERM; 0 then.

    Raises:
        ModelError: the checkpoint is no whole model folder.
        ConfigError: the port is taken, or the address is not this machine's.
        JobFailed: the model can't be loaded.
    """
    check(config)
    _check_port(config)
    config = absolute(config)
    with stopped_by_signals() as stop, endpoint(config):
        say(f"loading {config.default_model or 'models when they are asked for'} ...")
        if wait_ready(stop):
            say(ready_text(config))
            stop.wait()
        say("stopping")
        if config.jobs:
            _stop_jobs(say)
    return 0


def check(config: ServeConfig) -> None:
    """Find what is wrong with the folders before anything is started.

    Raises:
        ModelError: the checkpoint is no whole model folder.
    """
    if config.checkpoint_path is not None:
        model_folder.find(config.checkpoint_path, fetch=True)
    for root in config.model_roots:
        Path(root).expanduser().mkdir(parents=True, exist_ok=True)  # jobs will fill it


def _check_port(config: ServeConfig) -> None:
    from autoalign.serving.http_server import bind

    try:
        bind(config.host, config.port).close()
    except OSError as error:
        raise ConfigError(
            f"can't listen on {config.host}:{config.port}: {error.strerror}; give another --port"
        ) from None


def absolute(config: ServeConfig) -> ServeConfig:
    """The config with whole paths: an engine's process may be anywhere."""
    changes: dict[str, object] = {
        "model_roots": [str(Path(root).expanduser().resolve()) for root in config.model_roots]
    }
    if config.checkpoint_path is not None:
        changes["checkpoint_path"] = str(model_folder.find(config.checkpoint_path, fetch=True))
        changes["model_name"] = config.default_model
    if config.template is not None and Path(config.template).expanduser().is_file():
        changes["template"] = str(Path(config.template).expanduser().resolve())
    return config.model_copy(update=changes)


@contextlib.contextmanager
def endpoint(config: ServeConfig) -> Iterator[None]:
    """A running endpoint; taken down, with its engines, at the end."""
    # gateway, controller, fleet: they take no CPU in Ray, engines do
    with ray_session(config.ray_address, min_cpus=8) as cluster:
        from ray import serve

        from autoalign.serving.application import NAME, application

        serve.start(proxy_location="Disabled")
        try:
            serve.run(application(config, cluster.gpus > 0), name=NAME, route_prefix=None)
            yield
        finally:
            serve.shutdown()


def wait_ready(stop: threading.Event) -> bool:
    """Wait until the model that is loaded at once answers; False when `stop` was set before.

    Raises:
        JobFailed: it can't be loaded.
    """
    from ray import serve

    from autoalign.serving.application import GATEWAY, NAME

    gateway = serve.get_deployment_handle(GATEWAY, NAME)
    while not stop.is_set():
        if gateway.ready.remote().result():
            return True
        problem = gateway.problem.remote().result()
        if problem is not None:
            raise JobFailed(problem)
        time.sleep(_LOOK_EVERY)
    return False


def _stop_jobs(say: Say) -> None:
    """Jobs of this machine would be killed with the endpoint: told before, they save what they have."""
    from ray import serve
    from ray.exceptions import RayError

    from autoalign.serving.application import GATEWAY, NAME

    gateway = serve.get_deployment_handle(GATEWAY, NAME)
    stopped = 0
    with contextlib.suppress(RayError, TimeoutError):
        stopped = gateway.stop_jobs.remote().result(timeout_s=_JOBS_END)
    if stopped:
        say(f"stopped {stopped} running job(s), which go on when the platform is started again")


def ready_text(config: ServeConfig) -> str:
    """The URL, where the console is, how to get a token, and a first request to try."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{config.port}"
    token = " -H 'Authorization: Bearer TOKEN'" if config.require_tokens else ""
    model = config.default_model or "MODEL"
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    scopes = "infer,jobs" if config.jobs else "infer"
    lines = [
        f"ready on {url} (OpenAI's API under {url}/v1; Ctrl-C ends)",
        f"  in a browser: {url}/ ({'jobs and chat' if config.jobs else 'chat'})",
        *([f"  a token: autoalign-cli tokens create --name ME --scope {scopes}"] if token else []),
        f"  curl {url}/v1/chat/completions{token} -H 'Content-Type: application/json' -d '{body}'",
    ]
    return "\n".join(lines)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
