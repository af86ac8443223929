"""`python -m autoalign.cli.platform_job FOLDER COMMAND RUN_ID`: one attempt at a platform's job.

Runs the command with the folder's config, its output going to the folder's log, and leaves
behind how it ended. The lock it holds keeps the same job from running twice, whoever starts it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from autoalign.cli.main import COMMANDS, run_command
from autoalign.errors import AutoAlignError
from autoalign.jobs.folder import JobFolder, Outcome

_PATIENCE = 180.0  # seconds for an earlier attempt to end
# What the platform's own process may have in its environment and no job needs.
_SECRETS = ("AUTOALIGN_DATABASE_URL", "AUTOALIGN_TOKEN")


def main(folder: JobFolder, command: str, run_id: str) -> int:
    """Run the command; its exit code."""
    for name in _SECRETS:
        os.environ.pop(name, None)
    print(f"the log is {folder.log}", flush=True)
    _print_into(folder.log)
    os.chdir(folder.path)
    try:
        with folder.held(run_id, _PATIENCE):
            done = folder.outcome()
            if done is not None and done.exit_code == 0:
                return 0
            code = run_command(COMMANDS[command].target, ["--config", str(folder.config)])
            sys.stdout.flush()
            sys.stderr.flush()
            folder.write_outcome(Outcome(run_id, code))
            return code
    except AutoAlignError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def _print_into(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    sys.exit(main(JobFolder(Path(sys.argv[1])), sys.argv[2], sys.argv[3]))
