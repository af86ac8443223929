"""`autoalign-cli jobs ACTION`: jobs of a running platform."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from autoalign.cli.flags import Parser
from autoalign.client import DEFAULT_URL, TOKEN_VARIABLE, URL_VARIABLE, Client, Job
from autoalign.errors import ConfigError

_ABOUT = f"""\
Jobs of a running platform. Its address is --url, else {URL_VARIABLE}, else {DEFAULT_URL};
the token is {TOKEN_VARIABLE}.

  autoalign-cli jobs submit sft --model_name_or_path NAME --data_path FILE-ID --follow
"""
_FAILED = 1


def jobs(args: list[str]) -> int:
    """Entry of the `jobs` command."""
    if args[:1] == ["submit"] and len(args) > 1 and not args[1].startswith("-"):
        return _submit(args[1], args[2:])
    given = _parser().parse_strict(args)
    if given.action == "submit":
        raise ConfigError("jobs submit KIND: a kind of job is expected, such as sft")
    actions: dict[str, Callable[[Client, Namespace], int]] = {
        "list": _list,
        "show": _show,
        "logs": lambda client, asked: _logs(client, asked.id, asked.follow),
        "metrics": _metrics,
        "stop": lambda client, asked: _say(client.stop(asked.id)),
        "pause": lambda client, asked: _say(client.pause(asked.id)),
        "resume": lambda client, asked: _say(client.resume(asked.id)),
    }
    with Client(given.url) as client:
        return actions[given.action](client, given)


def _parser() -> Parser:
    parser = Parser(prog="autoalign-cli jobs", description=_ABOUT)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(actions, "submit", "queue a job: jobs submit KIND [--config X.yaml] [--key value ...] [--follow]")
    listing = _add(actions, "list", "your jobs, the newest first")
    listing.add_argument("--state", metavar="STATE")
    listing.add_argument("--kind", metavar="KIND")
    for name, about in (
        ("show", "a job with its config, as JSON"),
        ("logs", "what a job has printed"),
        ("metrics", "a job's figures, one JSON row a line"),
        ("stop", "cancel a job; its last checkpoint stays"),
        ("pause", "stop a job so that it can go on later"),
        ("resume", "let a paused job go on"),
    ):
        action = _add(actions, name, about)
        action.add_argument("id", metavar="ID")
        if name == "logs":
            action.add_argument("--follow", "-f", action="store_true", help="until the job has ended")
    return parser


def _add(actions: Any, name: str, about: str) -> ArgumentParser:
    action: ArgumentParser = actions.add_parser(name, help=about)
    action.add_argument("--url", metavar="URL", help="the platform")
    return action


def _submit(kind: str, args: list[str]) -> int:
    """Send what was given as it is: the platform knows which paths and keys it takes."""
    from autoalign.cli.flags import config_parser
    from autoalign.config.base import read_yaml
    from autoalign.jobs import kinds

    parser = config_parser(kinds.load(kind).config, f"autoalign-cli jobs submit {kind}")
    parser.add_argument("--url", metavar="URL", help="the platform")
    parser.add_argument("--follow", "-f", action="store_true", help="print the log until the job has ended")
    given = vars(parser.parse_strict([_underscored(word) for word in args]))
    url, follow = given.pop("url", None), given.pop("follow", False)
    path = given.pop("config", None)
    values = read_yaml(path)[0] if path else {}
    with Client(url) as client:
        job = client.submit(kind, {**values, **given})
        _say(job)
        return _logs(client, job.id, True) if follow else 0


def _underscored(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"--{flag[2:].replace('-', '_')}{equals}{value}" if word.startswith("--") else word


def _list(client: Client, given: Namespace) -> int:
    rows = [("ID", "KIND", "STATE", "OWNER", "MADE", "MESSAGE")]
    for job in client.jobs(kind=given.kind, state=given.state):
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.created_at))
        first = job.message.splitlines()[0][:60] if job.message else (job.model or "")
        rows.append((job.id, job.kind, job.state, job.owner, made, first))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        print("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _show(client: Client, given: Namespace) -> int:
    print(json.dumps(vars(client.job(given.id)), indent=2, ensure_ascii=False))
    return 0


def _metrics(client: Client, given: Namespace) -> int:
    for row in client.metrics(given.id):
        print(json.dumps(row))
    return 0


def _logs(client: Client, job_id: str, follow: bool) -> int:
    """Print the log; Ctrl-C ends the printing, not the job."""
    try:
        for text in client.logs(job_id, follow=follow):
            sys.stdout.write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        _tell(f"\n{job_id} goes on; to see it again: autoalign-cli jobs logs {job_id} --follow")
        return 0
    if not follow:
        return 0
    job = client.job(job_id)
    _say(job)
    return 0 if job.state in ("succeeded", "paused") else _FAILED


def _say(job: Job) -> int:
    state = f"{job.state}, to be stopped" if job.intent else job.state
    parts = [f"{job.id}: {state}", job.message, f"model {job.model}" if job.model else ""]
    _tell(", ".join(part for part in parts if part))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
