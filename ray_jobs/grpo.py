r"""Training by rewards (GRPO) as a Ray job, with the flags and exit codes of `autoalign-cli grpo`:

ray job submit --working-dir . --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}' \
    -- python ray_jobs/grpo.py --config configs/grpo.yaml [--key value ...]

`ray job stop` kills a job 3 s after SIGTERM unless this variable says more: time to save.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Where AutoAlign is not installed, the working directory that Ray uploaded holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoalign.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("autoalign.cli.train:grpo", sys.argv[1:]))
