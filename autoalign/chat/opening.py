"""What a chat template puts in front of a user's turn, and what ends that turn."""

from __future__ import annotations

from typing import Any, NamedTuple

from autoalign.chat.comparing import PROBE
from autoalign.chat.rendering import Messages, render_text
from autoalign.chat.template import Template
from autoalign.errors import TemplateError
from autoalign.records import Message


class Opening(NamedTuple):
    """Token ids up to where the user begins to speak; the turn's end, as a token or as a text."""

    token_ids: list[int]
    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]


def user_opening(messages: Messages, tokenizer: Any, template: Template) -> Opening:
    """The prompt after which a model writes the user's next turn.

    Args:
        messages: what was said so far; may be empty.

    Raises:
        TemplateError: the template does not write a user's turn as it is.
    """
    text = render_text(
        [*messages, Message("user", PROBE)],
        template,
        add_generation_prompt=True,
        special_tokens=tokenizer.special_tokens_map,
    )
    before, found, after = text.rpartition(PROBE)
    if not found:
        raise TemplateError(f"chat template '{template.name}' does not write what the user says")
    # A blank in front of a word is part of the word's token.
    ids: list[int] = tokenizer(before.rstrip(" "), add_special_tokens=False, verbose=False)["input_ids"]
    end = after.strip().split("\n")[0].strip()
    if not end:
        return Opening(ids, (), ())
    first = tokenizer(end, add_special_tokens=False)["input_ids"][0]
    if first in tokenizer.all_special_ids or first in tokenizer.added_tokens_decoder:
        return Opening(ids, (int(first),), ())
    return Opening(ids, (), (end,))
