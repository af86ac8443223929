"""Training by rewards (GRPO) as a Ray job, with the flags and exit codes of `autoalign-cli grpo`:

ray job submit --working-dir . -- python ray_jobs/grpo.py --config configs/grpo.yaml [--key value ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

# Where AutoAlign is not installed, the working directory that Ray uploaded holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoalign.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("autoalign.cli.train:grpo", sys.argv[1:]))
