"""Which tokens are trained on, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign.chat.encoding import IGNORED, Encoded

if TYPE_CHECKING:
    from rich.text import Text


class _Piece(NamedTuple):
    text: str
    trained: bool


def preview(encoded: Encoded, tokenizer: Any) -> Text:
    """The conversation as rich text: what is trained on is green and underlined, the rest is dim."""
    from rich.text import Text

    text = Text()
    for piece in _pieces(encoded, tokenizer):
        text.append(piece.text, style="green underline" if piece.trained else "dim")
    return text


def preview_plain(encoded: Encoded, tokenizer: Any) -> str:
    """The same without colour: what is trained on stands between « and »."""
    return "".join(
        f"«{piece.text}»" if piece.trained else piece.text for piece in _pieces(encoded, tokenizer)
    )


def _pieces(encoded: Encoded, tokenizer: Any) -> Iterator[_Piece]:
    """Decoded runs of tokens with the same fate."""
    before: list[int] = []
    rows = zip(encoded.input_ids, encoded.labels, strict=True)
    for trained, group in groupby(rows, key=lambda row: row[1] != IGNORED):
        ids = [token for token, _ in group]
        yield _Piece(_continued(before, ids, tokenizer), trained)
        before = ids[-1:]


def _continued(before: list[int], ids: list[int], tokenizer: Any) -> str:
    """Decode `ids` as they read after `before`: a decoder drops the space that opens a text."""
    lead, whole = _decode(before, tokenizer), _decode(before + ids, tokenizer)
    return whole[len(lead) :] if whole.startswith(lead) else _decode(ids, tokenizer)


def _decode(ids: list[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
