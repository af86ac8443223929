"""Self-Instruct (arXiv:2212.10560, section 3.1): a model writes new tasks after examples, and does them.

1. Each prompt shows eight tasks of the pool, six of the seeds and two of those made before (fewer as
   long as there are none), and asks for more.
2. A new instruction joins the pool only if its ROUGE-L similarity with every task there is below 0.7;
   those with words like "image" and very short or long ones are dropped.
3. The model says whether the task is a classification.
4. It writes instances: for a classification the labels first and then an input for each, otherwise
   the input first and then the output.
5. Instances of a task that are equal are kept once; a task that answers one input in two ways, and an
   output that repeats its input, are dropped.

The examples of steps 3 and 4 stand in their prompts. The paper's base model continues a text; here an
instruct model is asked to, through its chat template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from autoalign.errors import ConfigError
from autoalign.synthesis._instances import Instance, read_instances, refuse_instances
from autoalign.synthesis._job import Job, Reply, Row, conversation
from autoalign.synthesis._rouge import RougePool

SEEDS = "instructions"
ENDLESS = True
_TASK = re.compile(r"^\s*(?:task\s*)?\d+\s*[.:)]\s*(.*\S)", re.IGNORECASE | re.MULTILINE)
_YES = re.compile(r"\W*yes\b", re.IGNORECASE)
EXCLUDED = ("image", "images", "picture", "pictures", "graph", "graphs", "video", "audio", "file", "files")


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        rouge_l: an instruction at least this similar to an earlier one is dropped.
        shown_seeds, shown_made: tasks that a prompt shows.
        excluded_words: an instruction with one of them is dropped: a language model can't do it.
        min_words, max_words: shortest and longest instruction.
    """

    rouge_l: float = 0.7
    shown_seeds: int = 6
    shown_made: int = 2
    excluded_words: tuple[str, ...] = EXCLUDED
    min_words: int = 4
    max_words: int = 150

    def __post_init__(self) -> None:
        if not 0 < self.rouge_l <= 1:
            raise ConfigError(f"rouge_l is {self.rouge_l!r}; expected above 0 and at most 1")
        if self.shown_seeds < 1 or self.shown_made < 0:
            raise ConfigError("shown_seeds is 1 or more, shown_made 0 or more")


@dataclass
class _Pool:
    """All tasks there are; those made are at the end."""

    seeds: list[str]
    made: list[str] = field(default_factory=list)
    rouge: RougePool = field(default_factory=RougePool)

    def __post_init__(self) -> None:
        for text in self.seeds:
            self.rouge.add(text)

    def add(self, text: str) -> None:
        self.made.append(text)
        self.rouge.add(text)

    def __getitem__(self, index: int) -> str:
        return self.seeds[index] if index < len(self.seeds) else self.made[index - len(self.seeds)]


@dataclass(frozen=True)
class _Task:
    id: str
    instruction: str


def run(job: Job, options: Options) -> Iterator[Row]:
    """Rounds without end; each one's tasks join the pool that the next draws from."""
    pool = _Pool([seed.text for seed in job.seeds])
    for numbers in job.batches(count()):
        shown = [_shown(job, pool, options, number) for number in numbers]
        replies = job.generate(
            [
                job.ask(f"{number}/tasks", job.prompts.render("tasks", tasks=tasks))
                for number, tasks in zip(numbers, shown, strict=True)
            ]
        )
        tasks: list[_Task] = []
        for number, reply in zip(numbers, replies, strict=True):
            found = read_tasks(reply)
            if not found:
                yield Row(f"{number}", (), "no task in the answer", {"said": reply.text})
            for place, text in enumerate(found):
                refused = _refused(text, pool, options)
                if refused is None:
                    pool.add(text)
                    tasks.append(_Task(f"{number}.{place}", text))
                else:
                    reason, facts = refused
                    yield Row(f"{number}.{place}", (), reason, {"instruction": text, **facts})
        for batch in job.batches(tasks):
            yield from _done(job, batch)


def _shown(job: Job, pool: _Pool, options: Options, number: int) -> list[str]:
    """Seeds and tasks made before, mixed; where few were made, seeds in their place."""
    draw = job.random("tasks", number)
    made = draw.sample(pool.made, min(options.shown_made, len(pool.made)))
    seeds = options.shown_seeds + options.shown_made - len(made)
    shown = draw.sample(pool.seeds, min(seeds, len(pool.seeds))) + made
    draw.shuffle(shown)
    return shown


def read_tasks(reply: Reply) -> list[str]:
    """The instructions of a numbered list; the last one of a text that was cut off is left out."""
    if reply.finish_reason == "error":
        return []
    found: list[str] = _TASK.findall(reply.text)
    return found[:-1] if reply.finish_reason == "length" else found


def _refused(text: str, pool: _Pool, options: Options) -> tuple[str, dict[str, object]] | None:
    words = re.findall(r"\w+", text.lower())
    if not options.min_words <= len(words) <= options.max_words:
        return "an instruction too short or too long", {"words": len(words)}
    if excluded := sorted(set(words) & set(options.excluded_words)):
        return "an excluded word", {"words": excluded}
    if like := pool.rouge.most_like(text, options.rouge_l):
        return "like an earlier instruction", {"rouge_l": round(like.rouge_l, 4), "like": pool[like.place]}
    return None


def _done(job: Job, tasks: list[_Task]) -> Iterator[Row]:
    """Steps 3 to 5: rows of the tasks' instances."""
    verdicts = job.generate(
        [
            job.ask(
                f"{t.id}/kind", job.prompts.render("classification", instruction=t.instruction), greedy=True
            )
            for t in tasks
        ]
    )
    labelled = [bool(_YES.match(said.text)) for said in verdicts]
    replies = job.generate(
        [
            job.ask(
                f"{task.id}/instances",
                job.prompts.render(
                    "output_first" if is_labelled else "input_first", instruction=task.instruction
                ),
            )
            for task, is_labelled in zip(tasks, labelled, strict=True)
        ]
    )
    for task, is_labelled, reply in zip(tasks, labelled, replies, strict=True):
        facts = {"instruction": task.instruction, "classification": is_labelled}
        yield from _rows(task, read_instances(reply, is_labelled), facts)


def _rows(task: _Task, instances: list[Instance], facts: dict[str, object]) -> Iterator[Row]:
    if not instances:
        yield Row(task.id, (), "no instance in the answer", facts)
    for place, (instance, reason) in enumerate(refuse_instances(instances)):
        question = f"{task.instruction}\n{instance.input}" if instance.input else task.instruction
        yield Row(f"{task.id}.{place}", conversation(question, instance.output), reason, facts)
