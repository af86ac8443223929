"""What a method's `generate` is: asks to requests, texts from the store or an engine."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Protocol

from autoalign.errors import TemplateError
from autoalign.records import messages_to_dicts
from autoalign.sampling.engines.base import GenerationRequest, derive_seed
from autoalign.sampling.pool import Outcome
from autoalign.sampling.renderer import ChatRenderer
from autoalign.sampling.setup import Setup
from autoalign.synthesis import Ask, Reply
from autoalign.synthesizing.texts import TextStore

_ERROR = Reply("", "error")


class Engines(Protocol):
    """What generates; `sampling.pool.EnginePool` is one."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Outcome]:
        """Outcomes as they come."""
        ...


class Writer:
    """Called with asks, gives their replies in the same order.

    Args:
        identity: what the texts depend on apart from the asks: model, engine.
        start_engines: called once, when the first text is not in the store.

    Attributes:
        asked: texts that an engine was asked for.
        kept: texts that came from the store.
        errors: how often each reason for a failed request came up.
    """

    def __init__(
        self,
        setup: Setup,
        seed: int,
        identity: str,
        store: TextStore,
        start_engines: Callable[[], Engines],
        on_text: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        self._setup, self._seed, self._identity = setup, seed, identity
        self._store, self._start, self._on_text = store, start_engines, on_text
        self._engines: Engines | None = None
        self.asked = self.kept = self.output_tokens = 0
        self.errors: Counter[str] = Counter()

    def __call__(self, asks: Sequence[Ask]) -> list[Reply]:
        """Texts without white space around them; one that failed is empty."""
        replies: list[Reply] = [_ERROR] * len(asks)
        missing: list[tuple[int, str, GenerationRequest]] = []
        for number, ask in enumerate(asks):
            request = self._request(ask)
            if request is None:
                continue
            key = self._key(request)
            known = self._store.get(key)
            if known is None:
                missing.append((number, key, request))
            else:
                replies[number] = known
                self.kept += 1
        if missing:
            for place, reply in self._generated([request for *_, request in missing]):
                number, key, _ = missing[place]
                replies[number] = reply
                self._store.add(key, reply)
        return replies

    def _generated(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Reply]]:
        """Texts as they come; what failed is counted, and stays an error."""
        if self._engines is None:
            self._engines = self._start()
        for outcome in self._engines.generate(requests):
            self.asked += 1
            done = outcome.completion
            if done is None:
                self.errors[outcome.error or "no reason given"] += 1
                continue
            self.output_tokens += done.completion_tokens
            self._on_text(done.completion_tokens)
            yield outcome.number, Reply(done.text.strip(), done.finish_reason)

    def _request(self, ask: Ask) -> GenerationRequest | None:
        """None where the prompt can't be rendered or fills the context, which is counted."""
        params = self._setup.params
        renderer = self._setup.renderer
        try:
            if ask.writes == "question":
                assert isinstance(renderer, ChatRenderer)
                opening = renderer.opening(ask.messages)
                ids, stops, texts = opening
                params = replace(
                    params,
                    stop=(*params.stop, *texts),
                    stop_token_ids=tuple(dict.fromkeys((*params.stop_token_ids, *stops))),
                )
            else:
                ids = renderer.encode(ask.messages)
        except TemplateError as error:
            self.errors[str(error)] += 1
            return None
        if renderer.context is not None and len(ids) >= renderer.context:
            self.errors[f"a prompt filled the context of {renderer.context} tokens"] += 1
            return None
        if ask.temperature is not None:
            params = replace(params, temperature=ask.temperature)
        if ask.top_p is not None:
            params = replace(params, top_p=ask.top_p)
        params = replace(params, stop=(*params.stop, *ask.stop), json_schema=ask.json_schema)
        seed = derive_seed(self._seed, ask.key, 0)
        return GenerationRequest(ask.key, tuple(messages_to_dicts(ask.messages)), tuple(ids), params, seed)

    def _key(self, request: GenerationRequest) -> str:
        """32 hex digits of everything that the text depends on."""
        parts = [self._identity, request.id, request.messages, request.token_ids, request.seed]
        text = json.dumps([*parts, asdict(request.params)], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]
