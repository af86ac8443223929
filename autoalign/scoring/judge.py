"""A judge at work: questions to an engine, many at once, each asked again until its verdict can be read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from autoalign import manifest
from autoalign.errors import TemplateError
from autoalign.records import Message
from autoalign.sampling.engines.base import (
    Engine,
    GenerationRequest,
    RequestFailed,
    RequestRefused,
    SamplingParams,
    derive_seed,
)
from autoalign.sampling.setup import Setup
from autoalign.scoring.verdict_store import VerdictStore

VerdictT = TypeVar("VerdictT", float, str)
_RETRY_TEMPERATURE = 0.7  # the likeliest token would give the same text again


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked; `about` goes into the file of verdicts.

    Attributes:
        system: the system message; a judge whose template knows none gets it before the text.
        json_schema: what the judge writes is held to it (JSON text).
        reply: what an assistant said to the text: the turn that a guard model rates.
    """

    text: str
    about: dict[str, Any]
    system: str = ""
    json_schema: str | None = None
    reply: str | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """As a conversation."""
        system = (Message("system", self.system),) if self.system else ()
        return (*system, Message("user", self.text), *self._replied)

    @property
    def merged(self) -> tuple[Message, ...]:
        """The same without a system message."""
        text = f"{self.system}\n\n{self.text}" if self.system else self.text
        return (Message("user", text), *self._replied)

    @property
    def _replied(self) -> tuple[Message, ...]:
        return () if self.reply is None else (Message("assistant", self.reply),)


class _Rendered(NamedTuple):
    """A question as the judge is asked."""

    messages: tuple[Message, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class JudgeSettings:
    """How it is asked: `tries` for each verdict, `concurrency` at once, `seed` of all of them."""

    model: str
    tries: int = 3
    concurrency: int = 32
    seed: int = 42


class Judge:
    """An engine that gives verdicts.

    Args:
        start: makes the engine, in the event loop it is used from.

    Attributes:
        problem: why the last text could not be had. After so many failures in a row that it must be gone,
            the judge is not asked any more.
        lost: of the last questions, those without a verdict because a request failed; asked again, they
            may have one.
    """

    def __init__(
        self,
        start: Callable[[], Coroutine[Any, Any, Engine]],
        setup: Setup,
        settings: JudgeSettings,
        store: VerdictStore,
    ) -> None:
        self._setup, self._settings, self._store = setup, settings, store
        self._identity = _identity(setup.options.model)
        self._loop = asyncio.new_event_loop()
        self._failed_in_a_row, self.problem, self.lost = 0, "", 0
        try:
            self._engine = self._loop.run_until_complete(start())
        except BaseException:  # whatever it is goes on up, once the loop is closed
            self._loop.close()
            raise

    @property
    def verdicts(self) -> Path:
        """The file of what the judge said."""
        return self._store.path

    def ask(
        self, questions: Sequence[Question], read: Callable[[str], VerdictT | None]
    ) -> list[VerdictT | str | None]:
        """The verdict of each question, in order; None where no try gave one that `read` can read.

        Raises:
            EngineDead: the engine is gone, or never answered.
        """
        self.lost = 0
        return self._loop.run_until_complete(self._ask(questions, read))

    def close(self) -> None:
        """End the engine."""
        self._loop.run_until_complete(self._engine.close())
        self._loop.close()
        self._store.close()

    async def _ask(self, questions: Sequence[Question], read: Callable[[str], Any]) -> list[Any]:
        slots = asyncio.Semaphore(self._settings.concurrency)

        async def one(question: Question) -> Any:
            async with slots:
                return await self._verdict(question, read)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(question)) for question in questions]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _verdict(self, question: Question, read: Callable[[str], Any]) -> Any:
        try:
            rendered = self._rendered(question)
        except TemplateError as error:
            self.problem = str(error)
            return None
        failed = False
        for attempt in range(self._settings.tries):
            key = self._key(question, rendered, attempt)
            text = self._store.get(key)
            if text is None:
                try:
                    text = await self._text(question, rendered, key, attempt)
                except RequestFailed as error:
                    self.problem = str(error)
                    if not isinstance(error, RequestRefused):
                        failed = True
                        self._failed_in_a_row += 1
                    continue
                self._failed_in_a_row = 0
                row = {"judge": self._settings.model, "attempt": attempt, **question.about}
                self._store.add(key, {**row, "verdict": read(text), "text": text})
            if (verdict := read(text)) is not None:
                return verdict
        self.lost += failed
        return None

    async def _text(self, question: Question, rendered: _Rendered, key: str, attempt: int) -> str:
        if self._failed_in_a_row > 2 * self._settings.concurrency:
            raise RequestFailed(self.problem, retry=False)
        params = self._params(question)
        if attempt and params.greedy:
            params = replace(params, temperature=_RETRY_TEMPERATURE)
        request = GenerationRequest(
            f"{key[:16]}-{attempt}",
            tuple(message.to_dict() for message in rendered.messages),
            rendered.token_ids,
            params,
            derive_seed(self._settings.seed, question.text, attempt),
        )
        return (await self._engine.generate(request)).text

    def _params(self, question: Question) -> SamplingParams:
        return replace(self._setup.params, json_schema=question.json_schema)

    def _rendered(self, question: Question) -> _Rendered:
        try:
            return _Rendered(question.messages, tuple(self._setup.renderer.encode(question.messages)))
        except TemplateError:
            return _Rendered(question.merged, tuple(self._setup.renderer.encode(question.merged)))

    def _key(self, question: Question, rendered: _Rendered, attempt: int) -> str:
        """What a verdict follows from: the judge's weights, its template, what it is asked and how."""
        text = (question.system, question.text) if question.system else question.text
        how = (self._identity, self._settings.seed, self._params(question), attempt)
        replied = () if question.reply is None else (question.reply,)
        given = (*how, text, *replied, rendered.token_ids)
        return hashlib.blake2b(repr(given).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _identity(model: str) -> str:
    """A folder's weights, which may change under its name; the name of what runs elsewhere."""
    folder = Path(model)
    return manifest.model_digest(folder) if (folder / "config.json").is_file() else model
