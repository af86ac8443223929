"""Rows of one JSON document (an array, or one object), each with the line it starts on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import orjson

from autoalign.errors import DataError
from autoalign.formats._types import RawRow, describe

SPACE = re.compile(r"[ \t\r\n]*")


def document_rows(text: str, path: str) -> Iterator[RawRow]:
    """The array's elements, or the one object.

    `json` finds where each element ends; `orjson`, which is stricter (no NaN, no lone
    surrogates), reads it.

    Raises:
        DataError: broken JSON, with its line and column.
    """
    position = _skip(text, 0)
    if not text.startswith("[", position):
        yield _only_row(text, position, path)
        return
    line = 1 + text.count("\n", 0, position)
    counted, position = position, _skip(text, position + 1)
    if text.startswith("]", position):
        _expect_end(text, position + 1, path)
        return
    while True:
        line, counted = line + text.count("\n", counted, position), position
        end = _value_end(text, position, path)
        yield _row(text[position:end], path, line)
        position = _skip(text, end)
        if text.startswith("]", position):
            _expect_end(text, position + 1, path)
            return
        if not text.startswith(",", position):
            raise _broken(text, position, path, "',' or ']' is expected after a row")
        position = _skip(text, position + 1)


def _only_row(text: str, position: int, path: str) -> RawRow:
    end = _value_end(text, position, path)
    _expect_end(text, end, path)
    row = _row(text[position:end], path, 1 + text.count("\n", 0, position))
    if row.problem is None and not isinstance(row.value, dict):
        raise DataError(f"an array of rows is expected, found {describe(row.value)}", path, row.line)
    return row


def _row(text: str, path: str, line: int) -> RawRow:
    try:
        return RawRow(line, orjson.loads(text))
    except orjson.JSONDecodeError as error:
        return RawRow(line, text, DataError(f"broken JSON: {error.msg}", path, line + error.lineno - 1))


def _skip(text: str, position: int) -> int:
    match = SPACE.match(text, position)
    return match.end() if match else position


_DECODER = json.JSONDecoder()


def _value_end(text: str, position: int, path: str) -> int:
    try:
        return _DECODER.raw_decode(text, position)[1]
    except json.JSONDecodeError as error:
        raise _broken(text, error.pos, path, error.msg) from None
    except RecursionError:
        raise _broken(text, position, path, "nested too deeply") from None
    except ValueError as error:
        raise _broken(text, position, path, str(error)) from None


def _expect_end(text: str, position: int, path: str) -> None:
    position = _skip(text, position)
    if position < len(text):
        raise _broken(text, position, path, "more text follows the end of the JSON")


def _broken(text: str, position: int, path: str, message: str) -> DataError:
    column = position - text.rfind("\n", 0, position)
    return DataError(f"broken JSON at column {column}: {message}", path, 1 + text.count("\n", 0, position))
