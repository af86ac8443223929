r"""Automatic alignment as a Ray job, with the flags and exit codes of `autoalign-cli align`:

ray job submit --working-dir . --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}' \
    -- python ray_jobs/align.py --config X.yaml --model_name_or_path /mnt/cluster/models/M \
    --output_dir /mnt/cluster/runs/X --num_replicas 8 [--key value ...]

Models and output_dir belong on storage that every node sees: models/ is not uploaded, and a relative
output_dir would land in the job's temporary directory.

`ray job stop` kills a job 3 s after SIGTERM unless this variable says more: time to save.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Where AutoAlign is not installed, the working directory that Ray uploaded holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoalign.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("autoalign.cli.align:align", sys.argv[1:]))
