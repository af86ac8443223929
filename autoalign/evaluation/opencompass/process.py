"""OpenCompass as a process: started, watched, and ended with all that it started."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoalign.errors import ConfigError
from autoalign.evaluation.opencompass.datasets import Subset
from autoalign.evaluation.opencompass.environment import Environment
from autoalign.evaluation.opencompass.outcome import Outcome
from autoalign.evaluation.process_group import end_group
from autoalign.orphans import dismiss, guard_children

# OpenCompass hands these paths to a shell.
_PLAIN = re.compile(r"[\w@%+=:,./-]+")
_LOOK_EVERY = 0.5  # seconds


def require_plain(*paths: Path) -> None:
    """Raises ConfigError for a path that a shell would take apart."""
    for path in paths:
        if not _PLAIN.fullmatch(str(path)):
            raise ConfigError(
                f"{path}: OpenCompass starts its tasks through a shell, and this path has a blank or a sign "
                "that means something there; choose another --output_dir or --model_id"
            )


def command(environment: Environment, config_file: Path, work: Path) -> list[str]:
    """The command line of a run into `work`; what is done there is not done again."""
    return [
        *(str(environment.python), "-m", "opencompass.cli.main", str(config_file.absolute())),
        *("--work-dir", str(work.parent), "--reuse", work.name),
    ]


def run(
    line: Sequence[str], work: Path, variables: Mapping[str, str], subsets: Sequence[Subset], model: str
) -> int:
    """Run to the end; its output goes to `work`/opencompass.out, and each data set done is told on stderr.

    Returns:
        its exit code, which says little.
    """
    work.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(work, model)
    done = {subset.abbr for subset in subsets if outcome.is_done(subset.abbr)}
    guard = guard_children()
    with (work / "opencompass.out").open("ab") as log:
        process = subprocess.Popen(
            list(line),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=dict(variables),
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(_LOOK_EVERY)
                done |= _tell_new(outcome, subsets, done)
            _tell_new(outcome, subsets, done)
            return process.returncode
        finally:
            end_group(process)
            dismiss(guard)


def _tell_new(outcome: Outcome, subsets: Sequence[Subset], done: set[str]) -> set[str]:
    new = {subset.abbr for subset in subsets if subset.abbr not in done and outcome.is_done(subset.abbr)}
    if new:
        count = len(done) + len(new)
        print(f"eval: {', '.join(sorted(new))} done ({count} of {len(subsets)})", file=sys.stderr, flush=True)
    return new
