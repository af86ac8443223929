"""A round's algorithm over made-up replies: what it would ask for, and whether it has all that it needs."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoalign.algorithms import Ask, Dropped, Job, Prompt, Reply
from autoalign.alignment import prompts
from autoalign.alignment.checks import extractor
from autoalign.alignment.prompts import PromptSets
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError, InputError

_VERDICT = "\nScore: {points}\n[[{choice}]]\nGood principle: a\nBad principle: b"
_FEW = 8  # prompts: enough for an algorithm to come to all that it needs


@dataclass(frozen=True)
class RoundPlan:
    """At most so much: nothing fails in it, and every judge can be read.

    Attributes:
        texts: role to the texts that are asked of it.
        rows: training rows that come out, where about half the answers are right.
    """

    texts: Counter[str]
    rows: int


def plan_round(config: AlignConfig, sets: PromptSets, number: int, most: int | None = None) -> RoundPlan:
    """A dry run of the round's algorithm, with a verifier and a reward model only where the config has them.

    Args:
        most: take only so many of the round's prompts.
    """
    built = config.built(number)
    texts: Counter[str] = Counter()

    def generate(asks: Sequence[Ask]) -> list[Reply]:
        texts.update(ask.model for ask in asks)
        return [_made_up(ask) for ask in asks]

    def verify(prompt: Prompt, text: str) -> bool:
        return len(text) % 2 == 0

    job = Job(
        sets.of_round(number, config.prompts_per_round)[:most],
        prompts.texts(config, built),
        generate,
        prompts.principles(config),
        verify if config.verifier else None,
        (lambda text: "1") if extractor(config.verifier) else None,
        (lambda asked: [float(place % 7) for place in range(len(asked))]) if config.reward_model else None,
        number,
        config.seed,
        judge_guided=config.judge_guided,
    )
    rows = sum(not isinstance(made, Dropped) for made in built.run(job))
    return RoundPlan(texts, rows)


def require_inputs(config: AlignConfig, sets: PromptSets, note: Callable[[str], None]) -> None:
    """Dry runs of all rounds over a few prompts: what is missing is found before a model is asked.

    Raises:
        ConfigError: a round needs a verifier, a reward model, a principle or a prompt that is not there.
    """
    for number in range(1, config.rounds + 1):
        where = f"{config.algorithm}, round {number}"
        try:
            plan_round(config, sets, number, _FEW)
        except InputError as error:
            raise ConfigError(f"{where}: {error}") from None
        except Exception as error:  # the user's own algorithm may trip over texts that are made up
            note(f"{where}: not checked before it runs, since made-up replies end in {error!r}")


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
