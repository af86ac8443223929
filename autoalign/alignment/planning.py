"""What a job would run and what it would cost, without a model: the algorithm is run over made-up replies."""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoalign import algorithms
from autoalign.algorithms import Ask, Dropped, Job, Prompt, Reply
from autoalign.alignment.loop import Loop
from autoalign.alignment.prompts import PromptSets, principles
from autoalign.config.align import AlignConfig
from autoalign.config.grpo import GRPOConfig
from autoalign.config.train import TrainConfig

_VERDICT = "\nScore: {points}\n[[{choice}]]\nGood principle: a\nBad principle: b"


@dataclass(frozen=True)
class RoundPlan:
    """At most so much: nothing fails in it, and every judge can be read.

    Attributes:
        texts: role to the texts that are asked of it.
        rows: training rows that come out, where about half the answers are right.
    """

    number: int
    trains: str
    texts: Counter[str]
    rows: int


def plan_round(config: AlignConfig, sets: PromptSets, number: int) -> RoundPlan:
    """A dry run of the round's algorithm."""
    built = algorithms.build(config.algorithm, **config.algorithm_options(number))
    texts: Counter[str] = Counter()

    def generate(asks: Sequence[Ask]) -> list[Reply]:
        texts.update(ask.model for ask in asks)
        return [_made_up(ask) for ask in asks]

    def verify(prompt: Prompt, text: str) -> bool:
        return len(text) % 2 == 0

    job = Job(
        sets.of_round(number, config.prompts_per_round),
        built.prompts(),
        generate,
        principles(config),
        verify,
        lambda text: "1",
        lambda asked: [float(place % 7) for place in range(len(asked))],
        number,
        config.seed,
        judge_guided=config.judge_guided,
    )
    rows = sum(not isinstance(made, Dropped) for made in built.run(job))
    return RoundPlan(number, built.trains, texts, rows)


def lines(config: AlignConfig, sets: PromptSets, loop: Loop) -> Iterator[str]:
    """The plan for the terminal; the first round's data stage is looked for on disk."""
    yield (
        f"{config.algorithm}: {config.rounds} round{'s' if config.rounds > 1 else ''}; "
        f"{len(sets.training)} prompts to learn from, "
        f"{len(sets.held_out)} held out, {len(sets.benchmark)} of a benchmark"
    )
    done = sum(1 for _ in loop.finished())
    yield f"finished stages in {config.output_dir}: {done}"
    first = loop.data_stage(1)
    yield f"round 1's data stage {first.name}: {'done' if loop.is_done(first) else 'to run'}"
    total, longest = 0, config.max_new_tokens
    for number in range(1, config.rounds + 1):
        plan = plan_round(config, sets, number)
        judges = (config.metric == "judge") + ("held_out_judge" in config.models)
        judged = 2 * len(sets.held_out) * judges
        answers = len(sets.held_out) + len(sets.benchmark)
        evaluated = 0 if plan.trains != "policy" else judged + answers * (2 if number == 1 else 1)
        job = config.train_config(number, config.model_name_or_path, ["data.jsonl"], "out")
        seen = plan.rows * job.num_train_epochs
        asked = ", ".join(f"{count:,} of {role}" for role, count in sorted(plan.texts.items()))
        yield f"round {number}: texts at most: {asked}; evaluation {evaluated:,}"
        steps = f"{job.max_steps} steps" if job.max_steps > 0 else f"{seen:,.0f} rows seen"
        answered = f"; {own:,} texts on the way" if (own := _answered(job, plan.rows)) else ""
        yield f"  {job.job} on {plan.rows:,} rows at most: {steps}{answered}; trains the {plan.trains}"
        total += plan.texts.total() + evaluated + _answered(job, plan.rows)
    yield f"in all: {total:,} texts, at most {total * longest:,} output tokens"
    yield from _measured(loop)


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


def _made_up(ask: Ask) -> Reply:
    """A text that every verdict can be read from; which one follows from the ask's key."""
    luck = zlib.crc32(ask.key.encode())
    if ask.json_schema is not None:
        keys = json.loads(ask.json_schema)["properties"].items()
        values = {
            name: (each.get("enum") or ["a"])[luck % len(each.get("enum") or "a")] for name, each in keys
        }
        return Reply(json.dumps(values))
    verdict = _VERDICT.format(points=luck % 6, choice="AB"[luck // 6 % 2])
    return Reply(f"{ask.key} {'x' * (luck // 12 % 2)}{verdict}")
