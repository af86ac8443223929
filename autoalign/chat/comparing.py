"""Where the answers are, for a template without generation marks: found by comparing renderings.

The prompt of answer i is the rendering of the messages before it with the
generation prompt, and has to open the rendering of the whole conversation.
From there on stand the answer and the template's end-of-turn marker; the
marker is learned once for each template from an answer that no message holds.
Wherever that does not work out, the template is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from autoalign.chat.jinja import Rendered, Span
from autoalign.errors import TemplateError

PROBE = "qzxjprobe"
PROBE_MESSAGES: tuple[Mapping[str, Any], ...] = (
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": PROBE},
)

_Rows = Sequence[Mapping[str, Any]]


class TextOf(Protocol):
    """Renders some of the messages."""

    def __call__(self, part: _Rows, add_generation_prompt: bool) -> str: ...


def spans_by_comparing(rows: _Rows, text_of: TextOf, name: str) -> Rendered:
    """Render `rows` and find each assistant turn in the text.

    Raises:
        TemplateError: it can't be told where an answer begins or ends.
    """
    text = text_of(rows, False)
    marker = end_marker(text_of(PROBE_MESSAGES, False), name)
    turns = [index for index, row in enumerate(rows) if row.get("role") == "assistant"]
    return Rendered(text, tuple(_span(rows, turn, text, marker, text_of, name) for turn in turns))


def end_marker(probe_text: str, name: str) -> str:
    """What a rendering of `PROBE_MESSAGES` writes after the answer, up to the next whitespace.

    Raises:
        TemplateError: nothing follows the answer.
    """
    after = probe_text.rpartition(PROBE)[2]
    words = after.split()
    if PROBE not in probe_text or len(words) != 1:
        raise _ambiguous(name, f"after an answer it writes {after!r}, which is not one end-of-turn marker")
    return after[: after.index(words[0])] + words[0]


def _span(rows: _Rows, turn: int, text: str, marker: str, text_of: TextOf, name: str) -> Span:
    if turn == 0:
        raise _ambiguous(name, "the conversation begins with an assistant turn, which has no prompt")
    prompt = text_of(rows[:turn], True)
    upto = text_of(rows[: turn + 1], False)
    if not text.startswith(prompt) or not upto.startswith(prompt):
        raise _ambiguous(name, f"the prompt of message {turn} is not how the conversation goes on after it")
    as_last = upto[len(prompt) :]
    for said in _said(rows[turn], as_last, marker):
        if text.startswith(said, len(prompt)):
            return len(prompt), len(prompt) + len(said)
    if as_last.count(marker) == 1 and turn + 1 < len(rows):
        said = _said_before(rows[turn], text_of(rows[: turn + 2], False)[len(prompt) :], marker)
        if said and text.startswith(said, len(prompt)):
            return len(prompt), len(prompt) + len(said)
    raise _ambiguous(name, f"message {turn} is not written as it was given")


def _said(row: Mapping[str, Any], rest: str, marker: str) -> list[str]:
    """What the turn may read: as rendered in last place, or the bare content (Qwen3 thinks only there)."""
    content = str(row.get("content") or "")
    end = rest.rfind(marker)
    as_last = rest[: end + len(marker)]
    leftover = rest[end + len(marker) :]
    whole = end >= 0 and is_said(content, as_last) and not leftover.strip()
    return ([as_last] if whole else []) + [content + marker, content.strip() + marker]


def _said_before(row: Mapping[str, Any], rest: str, marker: str) -> str:
    """What the turn reads when another follows, where Qwen3 leaves out thoughts; empty where it isn't there.

    The turn itself holds no marker but its own, so the first is its end.
    """
    said = rest[: rest.find(marker) + len(marker)]
    answer = str(row.get("content") or "").rpartition("</think>")[2].strip()
    return said if marker in said and answer in said else ""


def is_said(part: str, text: str) -> bool:
    """Whether a text has a part, however its blanks are set: Qwen3 sets those around thoughts its own way."""
    return part in text or "".join(part.split()) in "".join(text.split())


def _ambiguous(name: str, why: str) -> TemplateError:
    return TemplateError(
        f"chat template '{name}' has no generation marks, and it can't be told which text to train on: "
        f"{why}. Put {{% generation %}}...{{% endgeneration %}} around what the assistant says, "
        "or name another template with --conv_template_name"
    )
