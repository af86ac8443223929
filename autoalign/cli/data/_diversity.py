"""How varied the answers of a file are, from a sample of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from autoalign.diversity import diversity, embedding_spread
from autoalign.formats import Record
from autoalign.records import PreferencePair

_MOST, _MOST_EMBEDDED = 1000, 200


class AnswerSample:
    """Lets records through, and keeps 1,000 of their answers, each with the same chance (reservoir)."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._seen = 0
        self._draw = random.Random(0)  # noqa: S311 (no secret)

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records."""
        for record in records:
            answers = record.chosen if isinstance(record, PreferencePair) else record.messages
            said = "\n".join(message.content for message in answers if message.role == "assistant")
            if said:
                self._keep(said)
            yield record

    def _keep(self, text: str) -> None:
        self._seen += 1
        if len(self.texts) < _MOST:
            self.texts.append(text)
        elif (place := self._draw.randrange(self._seen)) < _MOST:
            self.texts[place] = text

    def lines(self, embedder: str | None = None) -> Iterator[str]:
        """What is printed; `embedder`: the model folder that also gives their spread."""
        if len(self.texts) < 2:
            yield "diversity   fewer than two answers"
            return
        of = "" if self._seen <= _MOST else f" of {self._seen:,}"
        yield f"diversity   {diversity(self.texts)} ({len(self.texts):,}{of} answers)"
        if embedder is not None:
            from autoalign.embedding import Embedder

            drawn = self._draw.sample(self.texts, min(_MOST_EMBEDDED, len(self.texts)))
            vectors = Embedder(embedder).vectors(drawn)
            spread = f"{embedding_spread(vectors):.3f}" if len(vectors) > 1 else "unknown"
            yield f"            embedding spread {spread} (mean cosine distance of {len(vectors):,} answers)"
