"""An uploaded `.json` file: rows in one array, one value, or one on each line; read a piece at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

import orjson

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class BadJSON(ValueError):
    """What is wrong with the file, and where."""


def values(file: IO[bytes], most: int) -> Iterator[tuple[int, object]]:
    """The array's elements, or the file's own values, each with the line that it begins on.

    Of the file no more is in memory than two times `most`, and the value at hand.

    Args:
        most: characters of one value.

    Raises:
        BadJSON: it is no UTF-8 or no JSON, or one value is longer than `most` or nested without end.
    """
    text = _Text(file, most)
    if not text.skip("["):
        while text.is_left():
            yield text.value()
        return
    is_over = text.skip("]")
    while not is_over:
        yield text.value()
        is_over = text.skip("]")
        if not is_over and not text.skip(","):
            raise text.wrong("',' or ']' is expected")
    if text.is_left():
        raise text.wrong("more text follows the end of the JSON")


class _Text:
    """The file's text from `line` on: at least `most` characters of it, where there are as many."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self.line = 1

    def is_left(self) -> bool:
        """Whether anything but space is left; the space is passed."""
        while True:
            self._fill()
            space = _SPACE.match(self._text, self._at)
            self._move(space.end() if space else self._at)
            if self._at < len(self._text):
                return True
            if self._ended:
                return False

    def skip(self, mark: str) -> bool:
        """Pass `mark`, where it comes next."""
        found = self.is_left() and self._text[self._at] == mark
        if found:
            self._move(self._at + 1)
        return found

    def value(self) -> tuple[int, object]:
        """Pass the value that comes next: its line, and itself.

        `json` finds its end, and `orjson`, which is stricter, reads it.
        """
        if not self.is_left():
            raise self.wrong("a value is expected")
        self._fill()
        try:
            _, end = _DECODER.raw_decode(self._text, self._at)
            value: object = orjson.loads(self._text[self._at : end])
        except RecursionError:
            raise self.wrong("nested too deep") from None
        except ValueError as error:
            long = "" if self._ended else f", or a value of over {self._most} characters"
            raise self.wrong(f"not JSON{long}: {getattr(error, 'msg', error)}") from None
        if end - self._at > self._most:
            raise self.wrong(f"a value of over {self._most} characters")
        line = self.line
        self._move(end)
        return line, value

    def wrong(self, message: str) -> BadJSON:
        """The error, with the line."""
        return BadJSON(f"line {self.line}: {message}")

    def _move(self, at: int) -> None:
        self.line += self._text.count("\n", self._at, at)
        self._at = at

    def _fill(self) -> None:
        """Read on, where less than `most` characters are left."""
        if self._ended or len(self._text) - self._at > self._most:
            return
        parts = [self._text[self._at :]]
        while not self._ended and sum(map(len, parts)) <= self._most:
            piece = self._file.read(self._most)
            self._ended = not piece
            try:
                parts.append(self._decoder.decode(piece, final=self._ended))
            except UnicodeDecodeError:
                raise self.wrong("not UTF-8 text from here on") from None
        self._text, self._at = "".join(parts), 0
