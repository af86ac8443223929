"""What a job would run and what it would cost, without a model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoalign.alignment import following
from autoalign.alignment.carrying import Kind, carried
from autoalign.alignment.dry_run import plan_round
from autoalign.alignment.following import Followed
from autoalign.alignment.loop import Loop
from autoalign.alignment.prompts import PromptSets
from autoalign.config.align import AlignConfig
from autoalign.config.grpo import GRPOConfig
from autoalign.config.train import TrainConfig


@dataclass(frozen=True)
class Cost:
    """What is to run in a round; texts and rows are at most so many where its data are still to be made.

    Attributes:
        kind: of its data.
        texts: role to the texts that its data stage asks for.
        evaluation: answers to what is held out, and verdicts on them.
        rows: training rows that its data stage makes.
        carried: rows of earlier rounds that it trains on as well.
        job: its training; None where it is done.
    """

    kind: Kind
    texts: Counter[str]
    evaluation: int
    rows: int
    carried: int
    job: TrainConfig | None

    @property
    def trained(self) -> int:
        """Rows of the training."""
        return self.rows + self.carried

    @property
    def on_the_way(self) -> int:
        """Texts that the training itself asks for."""
        return 0 if self.job is None else _answered(self.job, self.trained)

    @property
    def total(self) -> int:
        """Texts in all."""
        return self.texts.total() + self.evaluation + self.on_the_way


def cost(config: AlignConfig, sets: PromptSets, each: Followed, before: Sequence[tuple[Kind, int]]) -> Cost:
    """Of a round.

    Args:
        before: the rows that each earlier round's data stage made or will make.
    """
    number, data = each.entry.number, each.output("data")
    kind = Kind.of(config.built(number))
    if data is None:
        plan = plan_round(config, sets, number)
        texts, rows = plan.texts, plan.rows
    else:
        texts, rows = Counter(), int(data.figures["rows"])
    judges = (config.metric == "judge") + ("held_out_judge" in config.models)
    judged = each.entry.trains == "policy" and each.output("evaluation") is None
    evaluation = each.answering * (len(sets.held_out) + len(sets.benchmark))
    job = None
    if each.output("train") is None:
        job = config.train_config(number, config.model_name_or_path, ["data.jsonl"], "out")
    return Cost(
        kind,
        texts,
        evaluation + 2 * len(sets.held_out) * judges * judged,
        rows,
        sum(carried(before, kind, config.carry_rounds)),
        job,
    )


def lines(config: AlignConfig, sets: PromptSets, loop: Loop) -> Iterator[str]:
    """The plan for the terminal: which stages are done, which are to run, and their cost."""
    yield (
        f"{config.algorithm}: {config.rounds} round{'s' if config.rounds > 1 else ''}; "
        f"{len(sets.training)} prompts to learn from, "
        f"{len(sets.held_out)} held out, {len(sets.benchmark)} of a benchmark"
    )
    yield f"finished stages in {config.output_dir}: {len(loop.finished())}"
    total, before, last = 0, list[tuple[Kind, int]](), 0
    for each in following.rounds(loop):
        found = cost(config, sets, each, before)
        before.append((found.kind, found.rows))
        yield from _round(each, found)
        total += found.total
        last = each.entry.number
    if last < config.rounds:
        yield f"the loop ends with round {last} (on_worse: stop)"
    yield f"in all: {total:,} texts, at most {total * config.max_new_tokens:,} output tokens"
    yield from _measured(loop)


def _round(each: Followed, found: Cost) -> Iterator[str]:
    number = each.entry.number
    if each.entry.reason:
        yield f"round {number}: done: {each.entry.reason}"
    else:
        asked = ", ".join(f"{count:,} of {role}" for role, count in sorted(found.texts.items()))
        yield f"round {number}: texts at most: {asked or 'none'}; evaluation {found.evaluation:,}"
    if each.done:
        yield f"  done: {', '.join(each.done)}"
    if each.to_run:
        yield f"  to run: {', '.join(each.to_run)}"
    if found.job is not None:
        yield f"  {_training(found.job, found, each)}"


def _training(job: TrainConfig, found: Cost, each: Followed) -> str:
    seen = found.trained * job.num_train_epochs
    steps = f"{job.max_steps} steps" if job.max_steps > 0 else f"{seen:,.0f} rows seen"
    most = " at most" if each.output("data") is None else ""
    earlier = f", {found.carried:,} of them of earlier rounds" if found.carried else ""
    answered = f"; {found.on_the_way:,} texts on the way" if found.on_the_way else ""
    rows = f"{found.trained:,} rows{most}{earlier}"
    return f"{job.job} on {rows}: {steps}{answered}; trains the {each.entry.trains}"


def _answered(job: TrainConfig, rows: int) -> int:
    """Texts that the training itself asks for."""
    if not isinstance(job, GRPOConfig):
        return 0
    asked = rows * job.num_train_epochs
    if job.max_steps > 0:
        asked = job.prompts_per_step(job.max_workers) * job.max_steps / job.num_iterations
    return round(asked * job.num_generations)


def _measured(loop: Loop) -> Iterator[str]:
    """How long it took so far, where something ran already."""
    seconds: dict[str, float] = defaultdict(float)
    for done in loop.finished():
        seconds[str(done.record["kind"])] += float(done.record["seconds"])
    for kind, spent in sorted(seconds.items()):
        yield f"  measured: {kind} {spent:,.0f} s so far"
