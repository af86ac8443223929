"""Conversations of several turns, inside the actor: each next request needs the answer before it.

Every text has a seed of its own, from (prompt, index, turn, who speaks), so a rerun says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autoalign.config.sample import InferConfig
from autoalign.records import Message, messages_to_dicts
from autoalign.sampling.engines.base import (
    Completion,
    Engine,
    EngineOptions,
    GenerationRequest,
    derive_seed,
)
from autoalign.sampling.prompts import Prompt, Renderer
from autoalign.sampling.reasoning import split_reasoning
from autoalign.sampling.setup import Setup
from autoalign.sampling.simulator import UserSimulator, simulator_of, spoken


@dataclass(frozen=True)
class Turns:
    """How many answers a conversation has, how its prompts are rendered, who speaks between them.

    `split_reasoning`: an answer's reasoning is not shown to the next turns.
    """

    count: int
    renderer: Renderer = field(repr=False)
    user: UserSimulator
    split_reasoning: bool = False

    def with_room(self, backend: str, options: EngineOptions) -> EngineOptions:
        """The answers' engine, which may have to share its GPUs with the user's."""
        if self.user.backend != "vllm" or backend != "vllm":
            return options
        return replace(options, gpu_memory_utilization=options.gpu_memory_utilization / 2)


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer, with what was said in front of it (`user`; None: the prompt's own question)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seed: int
    user: str | None = None
    reasoning: str | None = None
    logprobs: tuple[float, ...] | None = None

    def told(self) -> dict[str, Any]:
        """As a row of the output tells it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Place:
    """Which conversation it is: of which prompt, the how many-th of it, with which seed of the job."""

    prompt: Prompt
    index: int
    seed: int

    def seed_of(self, speaker: str, turn: int) -> int:
        """The seed of a text behind the first answer, whose own is `derive_seed`."""
        return derive_seed(self.seed, f"{self.prompt.id}\0{speaker}\0{turn}", self.index)


class Dialogue:
    """One conversation while it grows.

    Args:
        engine: gives the answers.
        user_engine: plays the user.
    """

    def __init__(self, turns: Turns, engine: Engine, user_engine: Engine, place: Place) -> None:
        self._turns, self._engine, self._user_engine, self._place = turns, engine, user_engine, place
        self._later: list[dict[str, Any]] = []

    async def run(self, request: GenerationRequest) -> list[Turn]:
        """All turns; ends early where an answer is cut off, the user falls silent, or the context is full.

        Args:
            request: the first answer's.

        Raises:
            RequestFailed: a text could not be had.
        """
        said = [await self._answer(request, None)]
        while len(said) < self._turns.count and said[-1].finish_reason == "stop":
            self._later.append({"role": "assistant", "content": said[-1].text})
            user = await self._user(request.id, len(said))
            following = self._following(request, user, len(said)) if user else None
            if following is None:
                break
            said.append(await self._answer(following, user))
        return said

    async def _answer(self, request: GenerationRequest, user: str | None) -> Turn:
        done = await self._engine.generate(request)
        reasoning, text = None, done.text.strip()
        if self._turns.split_reasoning:
            reasoning, text = split_reasoning(text)
        return Turn(
            text=text,
            finish_reason=done.finish_reason,
            prompt_tokens=done.prompt_tokens,
            completion_tokens=done.completion_tokens,
            seed=request.seed or 0,
            user=user,
            reasoning=reasoning,
            logprobs=done.logprobs,
        )

    async def _user(self, name: str, turn: int) -> str:
        """What the user says behind `turn` answers; nothing where the conversation fills the context."""
        simulator = self._turns.user
        messages = simulator.ask([*self._place.prompt.own_messages, *self._later], turn + 1)
        ids = tuple(simulator.renderer.encode(messages))
        if _is_full(simulator.renderer, ids):
            return ""
        asked = GenerationRequest(
            f"{name}-user{turn}",
            tuple(messages_to_dicts(messages)),
            ids,
            simulator.params,
            self._place.seed_of("user", turn),
        )
        return spoken((await self._user_engine.generate(asked)).text)

    def _following(self, first: GenerationRequest, user: str, turn: int) -> GenerationRequest | None:
        """The request of the next answer; None where the conversation fills the context."""
        self._later.append({"role": "user", "content": user})
        prompt, renderer = self._place.prompt, self._turns.renderer
        messages = (*prompt.messages, *self._later)
        ids = tuple(renderer.encode([_message(each) for each in messages], prompt.tools))
        if _is_full(renderer, ids):
            return None
        seed = self._place.seed_of("assistant", turn)
        return replace(first, id=f"{first.id}-turn{turn}", messages=messages, token_ids=ids, seed=seed)


def turns_of(config: InferConfig, setup: Setup) -> Turns | None:
    """What a config says of them; None where an answer is all there is."""
    if config.turns == 1:
        return None
    return Turns(config.turns, setup.renderer, simulator_of(config, setup), config.split_reasoning)


def joined(turns: Sequence[Turn]) -> Completion:
    """The last answer, with the tokens of all."""
    return Completion(
        turns[-1].text,
        turns[-1].finish_reason,
        sum(turn.prompt_tokens for turn in turns),
        sum(turn.completion_tokens for turn in turns),
    )


def messages_behind(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a conversation's turns (`Turn.told`), behind the prompt's own."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.get("user") is not None:
            messages.append({"role": "user", "content": turn["user"]})
        messages.append({"role": "assistant", "content": turn["text"]})
    return messages


def _message(row: Mapping[str, Any]) -> Message:
    return Message(**{**row, "tool_calls": tuple(row.get("tool_calls", ()))})


def _is_full(renderer: Renderer, ids: tuple[int, ...]) -> bool:
    return renderer.context is not None and len(ids) >= renderer.context
