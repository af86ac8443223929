"""The ways in which every prompt is answered: parameters, system messages, draws of examples, and all of
their combinations."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from autoalign import formats
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError
from autoalign.records import Conversation, Message
from autoalign.sampling.engines.base import SamplingParams

SWEPT = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way; `system_message` None leaves the prompt's own, `few_shot` is the number of a draw."""

    params: SamplingParams
    system_message: str | None = None
    few_shot: int | None = None


@dataclass(frozen=True)
class Sweep:
    """All ways, of which there is at least one.

    Attributes:
        recorded: what differs between them, as a row of the output tells it.
    """

    variants: tuple[Variant, ...]
    recorded: tuple[Mapping[str, Any], ...] = ()
    examples: Sequence[Conversation] = field(default=(), repr=False)
    shown: int = 0
    seed: int = 42

    @classmethod
    def of(cls, config: InferConfig, params: SamplingParams) -> Sweep:
        """The ways that a config names, in the order of its lists; parameters vary fastest.

        Raises:
            ConfigError: a file of system messages that can't be read or is empty.
            DataError: wrong examples.
        """
        systems, draws = (
            _system_messages(config),
            range(config.few_shot_sets) if config.few_shot_path else [None],
        )
        values = [value if isinstance(value := getattr(config, name), list) else [value] for name in SWEPT]
        sets = [replace(params, **dict(zip(SWEPT, each, strict=True))) for each in product(*values)]
        variants = tuple(Variant(*each) for each in ((p, s, d) for s, d, p in product(systems, draws, sets)))
        names = [name for name in SWEPT if isinstance(getattr(config, name), list)]
        examples = (
            formats.load(config.few_shot_path, kind="sft").conversations if config.few_shot_path else ()
        )
        if len(examples) < config.few_shot and config.few_shot_path:
            raise ConfigError(f"few_shot is {config.few_shot}, but few_shot_path holds {len(examples)} rows")
        recorded = tuple(_recorded(variant, names, len(systems) > 1) for variant in variants)
        return cls(variants, recorded if config.has_sweep else (), examples, config.few_shot, config.seed)

    @classmethod
    def single(cls, system_message: str | None = None) -> Sweep:
        """One way, with nothing to record."""
        return cls((Variant(SamplingParams(), system_message),))

    @property
    def params(self) -> tuple[SamplingParams, ...]:
        """Those of each way."""
        return tuple(variant.params for variant in self.variants)

    def drawn(self, prompt_id: str, few_shot: int | None) -> list[Conversation]:
        """The examples of one prompt in one draw; they follow from the seed and these two alone.

        An example with the prompt's own id is none.
        """
        if few_shot is None:
            return []
        pool = [example for example in self.examples if example.id != prompt_id]
        draw = random.Random(f"{self.seed} {prompt_id} {few_shot}")  # noqa: S311 (no secret)
        return draw.sample(pool, min(self.shown, len(pool)))


def with_examples(messages: Sequence[Message], examples: Sequence[Conversation]) -> tuple[Message, ...]:
    """The examples' turns between the system message and the prompt's own turns."""
    head = 1 if messages and messages[0].role == "system" else 0
    turns = [turn for example in examples for turn in example.messages if turn.role != "system"]
    return (*messages[:head], *turns, *messages[head:])


def _system_messages(config: InferConfig) -> list[str | None]:
    if config.system_message_file is None:
        given = config.system_message
        return list(given) if isinstance(given, list) else [given]
    path = Path(config.system_message_file).expanduser()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"system_message_file {path} can't be read: {error}") from None
    if not any(lines):
        raise ConfigError(f"system_message_file {path}: no line with text in it")
    return list(dict.fromkeys(line for line in lines if line))


def _recorded(variant: Variant, names: Sequence[str], several_systems: bool) -> dict[str, Any]:
    params = asdict(variant.params)
    told = {name: params[name] for name in names}
    if several_systems:
        told["system_message"] = variant.system_message
    if variant.few_shot is not None:
        told["few_shot_set"] = variant.few_shot
    return told
