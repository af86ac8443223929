"""`autoalign-cli COMMAND`: finds the command's module, and turns errors into exit codes.

Command modules are imported only when their command is asked for, so that
`--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple

from autoalign import __version__
from autoalign.errors import AutoAlignError, nearest


class Command(NamedTuple):
    """Where a command lives: `module:function`, the function taking the remaining arguments."""

    target: str
    summary: str


COMMANDS: dict[str, Command] = {
    "sft": Command("autoalign.cli.train:sft", "fine-tune a model on conversations"),
    "dpo": Command("autoalign.cli.train:dpo", "train a model on preference pairs: DPO and its kin"),
    "rm": Command("autoalign.cli.train:rm", "train a reward model on preference pairs"),
    "grpo": Command("autoalign.cli.train:grpo", "train a model on its own answers, by rewards (GRPO)"),
    "plan": Command("autoalign.cli.plan:plan", "memory, steps and hours of a training job, before it starts"),
    "score": Command("autoalign.cli.score:score", "score answers: reward model, LLM judge, or verifiers"),
    "infer": Command("autoalign.cli.sample:infer", "answer a file of prompts with a model"),
    "synthesize": Command(
        "autoalign.cli.synthesize:synthesize", "make instructions and answers with a model"
    ),
    "eval": Command("autoalign.cli.evaluate:evaluate", "score a model on benchmarks, and compare models"),
    "batch": Command("autoalign.cli.batch:batch", "answer a file of OpenAI chat completion requests"),
    "align": Command("autoalign.cli.align:align", "align a model over rounds, without human labels"),
    "merge": Command("autoalign.cli.merge:merge", "combine checkpoints, or write an adapter into its base"),
    "chat": Command("autoalign.cli.chat:chat", "talk to a model in the terminal"),
    "serve": Command("autoalign.cli.serve:serve", "serve models over OpenAI's API"),
    "data": Command("autoalign.cli.data:data", "validate, preview, filter, pair or measure data files"),
    "models": Command("autoalign.cli.models:models", "fetch a model; promote a platform's, or roll back"),
    "jobs": Command("autoalign.cli.jobs:jobs", "submit, list, follow and stop jobs of a running platform"),
    "tokens": Command("autoalign.cli.tokens:tokens", "who may use a platform: make, list, revoke tokens"),
    "doctor": Command("autoalign.cli.doctor:doctor", "what this machine has and what is missing"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 failed, 2 wrong input, 3 stopped early)."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"autoalign {__version__}")
        return 0
    name, rest = args[0], args[1:]
    if name not in COMMANDS:
        print(
            f"error: unknown command '{name}'{nearest(name, COMMANDS)}; see autoalign-cli --help",
            file=sys.stderr,
        )
        return 2
    return run_command(COMMANDS[name].target, rest)


def run_command(target: str, args: list[str]) -> int:
    """Call `module:function` with `args`; errors become one message and an exit code."""
    module, function = target.split(":")
    try:
        code = getattr(importlib.import_module(module), function)(args)
    except AutoAlignError as error:
        print(f"error: {error}", file=sys.stderr)
        if os.environ.get("AUTOALIGN_TRACEBACK"):
            raise
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away; nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return int(code or 0)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"AutoAlign {__version__}: align a language model, evaluate it, serve it.",
            "",
            "usage: autoalign-cli COMMAND [--config X.yaml] [--key value ...]",
            "",
            *rows,
            "",
            "autoalign-cli COMMAND --help shows every key with its default and meaning.",
        ]
    )


def entrypoint() -> None:
    """Console script."""
    sys.exit(main())


if __name__ == "__main__":
    entrypoint()
