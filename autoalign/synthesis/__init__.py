"""Ways to make training data with a model, one file each, found by file name.

A file holds

- `Options`: a frozen dataclass with its own options alone;
- `SEEDS`: what a seed is ("instructions", "texts", ...), or None where it needs none;
- `ENDLESS`: whether it goes on until it is stopped;
- `run(job: Job, options: Options) -> Iterator[Row]`: rows as they are made, the dropped ones with
  the reason. It asks the model through `job.generate` alone, and what it asks follows from the
  seeds, the answers and `job.seed`, so a run that is done again over kept answers takes the same way.

`WRITES_QUESTIONS = True` says that it also asks for the user's turn. Its prompts are
`autoalign/prompts/synthesis/NAME/*.txt`; with `OWN_PROMPTS = "task_"` a user's folder of prompts may also
hold new ones whose names begin so.
"""

from autoalign.synthesis._job import Ask, Generate, Job, Reply, Row, Seed
from autoalign.synthesis._method import Method, build, names
from autoalign.synthesis._prompts import PromptSet

__all__ = [
    "Ask",
    "Generate",
    "Job",
    "Method",
    "PromptSet",
    "Reply",
    "Row",
    "Seed",
    "build",
    "names",
]
