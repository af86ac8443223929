"""Numbers about records: lengths, roles, duplicates, script. Pure; printing is elsewhere."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from autoalign.formats import Record
from autoalign.records import Conversation, LabelledAnswer, Message

BATCH = 256
CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]")
LETTER = re.compile(r"[^\W\d_]")
CJK_ROW = 0.3  # a row counts as CJK from this share of its letters on: code and names may be Latin

Count = Callable[[Sequence[str]], list[int]]


class Summary(NamedTuple):
    """Five figures of a list of lengths."""

    min: float
    median: float
    mean: float
    p95: float
    max: float


@dataclass
class Measures:
    """What `measure` found; `lengths` by part: turns, prompt, answer (or completion, or chosen, rejected)."""

    rows: int = 0
    lengths: dict[str, list[int]] = field(default_factory=dict)
    roles: Counter[str] = field(default_factory=Counter)
    labels: Counter[bool] = field(default_factory=Counter)
    same_rows: int = 0
    same_prompts: int = 0
    cjk_rows: int = 0
    cjk_letters: int = 0
    letters: int = 0


def measure(records: Iterable[Record], count: Count) -> Measures:
    """Measure a stream of records; keeps lengths and hashes, not texts.

    Args:
        count: the length of each text, in characters or tokens.
    """
    found, rows, prompts = Measures(), set[bytes](), set[bytes]()
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        parts = [_parts(record) for record in batch]
        for name in parts[0]:
            found.lengths.setdefault(name, []).extend(count([part[name] for part in parts]))
        for record, part in zip(batch, parts, strict=True):
            _note(found, record, part)
            found.same_rows += _seen(rows, "\0".join(part.values()))
            found.same_prompts += _seen(prompts, part["prompt"])
    return found


def _parts(record: Record) -> dict[str, str]:
    if isinstance(record, Conversation):
        answers = [message for message in record.messages if message.role == "assistant"]
        asked = [message for message in record.messages if message.role != "assistant"]
        return {"prompt": _text(asked), "answer": _text(answers)}
    if isinstance(record, LabelledAnswer):
        return {"prompt": _text(record.prompt), "completion": _text(record.completion)}
    return {
        "prompt": _text(record.prompt),
        "chosen": _text(record.chosen),
        "rejected": _text(record.rejected),
    }


def _text(messages: Iterable[Message]) -> str:
    return "\n".join(message.content for message in messages)


def _turns(record: Record) -> tuple[Message, ...]:
    if isinstance(record, Conversation):
        return record.messages
    return record.prompt + (record.completion if isinstance(record, LabelledAnswer) else record.chosen)


def _note(found: Measures, record: Record, part: dict[str, str]) -> None:
    turns = _turns(record)
    text = "".join(part.values())
    cjk, letters = len(CJK.findall(text)), len(LETTER.findall(text))
    found.rows += 1
    found.lengths.setdefault("turns", []).append(len(turns))
    if isinstance(record, LabelledAnswer):
        found.labels[record.label] += 1
    found.roles.update(message.role for message in turns)
    found.cjk_letters += cjk
    found.letters += letters
    found.cjk_rows += letters > 0 and cjk >= CJK_ROW * letters


def _seen(digests: set[bytes], text: str) -> bool:
    digest = hashlib.blake2b(text.encode(), digest_size=12).digest()
    known = digest in digests
    digests.add(digest)
    return known


def summary(values: Sequence[int]) -> Summary:
    """Nearest-rank median and 95th percentile. `values`: at least one."""
    ordered = sorted(values)

    def rank(share: float) -> int:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Summary(ordered[0], rank(0.5), sum(ordered) / len(ordered), rank(0.95), ordered[-1])


def histogram(values: Sequence[int], bins: int = 10, width: int = 40) -> Iterator[str]:
    """Lines of a bar chart; the last bin holds what lies over the 95th percentile."""
    top = max(int(summary(values).p95), 1)
    step = max(1, math.ceil((top + 1) / (bins - 1)))
    counts = Counter(min(value // step, bins - 1) for value in values)
    longest = max(counts.values())
    for index in range(max(counts) + 1):
        end = f"{(index + 1) * step - 1:,}" if index < bins - 1 else "more"
        bar = "#" * math.ceil(counts[index] * width / longest)
        yield f"{index * step:>9,} - {end:<9} {counts[index]:>9,}  {bar}".rstrip()
