"""Algorithms of automatic alignment, one file each, found by file name.

A file holds

- `Options`: a frozen dataclass with its own options alone, defaults from the paper;
- `MAKES`: "examples" (for `sft`), "pairs" (for `dpo`) or "prompts" (for `grpo`); where the options
  decide, a function `makes(options)` instead;
- `run(job: Job, options: Options) -> Iterator[Made]`: what it makes, each with the reason why it was
  kept, and what it leaves out, each with the rule that dropped it. It asks models through
  `job.generate` alone, and what it asks follows from the prompts, the replies and `job.seed`, so a
  run that is done again over kept replies takes the same way.

It may also hold `TRAINING` (settings of the training job that belong to the method, such as the loss;
where the options decide, a function `training(options)` instead), `STARTS_FROM = "base"` (each round
trains the first model anew; otherwise the last promoted one), `trains(options)` (the role that the
trained model takes; otherwise "policy"), and `judges(options)` (the roles that give verdicts; otherwise
what the option `judge` says, if there is one). Its prompts are
`autoalign/prompts/algorithms/NAME/*.txt`.
"""

from autoalign.algorithms._algorithm import Algorithm, build, names
from autoalign.algorithms._job import Extract, Job, Prompt, Reward, Verify
from autoalign.algorithms._made import Dropped, Example, Made, Pair, Question
from autoalign.synthesis import Ask, Generate, PromptSet, Reply

__all__ = [
    "Algorithm",
    "Ask",
    "Dropped",
    "Example",
    "Extract",
    "Generate",
    "Job",
    "Made",
    "Pair",
    "Prompt",
    "PromptSet",
    "Question",
    "Reply",
    "Reward",
    "Verify",
    "build",
    "names",
]
