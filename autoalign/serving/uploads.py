"""Uploaded files: read as they come, bounded, and looked at before they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from autoalign.jobs.file_store import Upload
from autoalign.jobs.nesting import levels
from autoalign.jobs.settings import Limits
from autoalign.serving import json_file
from autoalign.serving.api_route import ApiError

_FORM_BYTES = 64 << 10  # what may stand around the file
_FIELD_BYTES, _HEADER_BYTES, _PARTS = 1024, 4096, 8
_DEEPEST, _LONGEST_KEY = 64, 512
_GZIP = b"\x1f\x8b"


class FormReader:
    """Takes a multipart body apart: the part `file` goes to `upload`, the others are short fields."""

    def __init__(self, boundary: bytes, upload: Upload, most: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.ended = False
        self._upload, self._most, self._parts = upload, most, 0
        self._name, self._headers, self._value = b"", {}, bytearray()  # type: ignore[var-annotated]
        self._header = (bytearray(), bytearray())
        self._is_file = False
        callbacks: Any = {name: getattr(self, f"_{name}") for name in _CALLBACKS}
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            ApiError: it is no multipart form, or a part is too large.
        """
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise ApiError(400, f"the body is no multipart form: {error}", code="invalid_form") from None

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS:
            raise ApiError(400, f"more than {_PARTS} parts in the form", code="invalid_form")
        self._headers, self._value, self._is_file = {}, bytearray(), False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._header[0], data[start:end], _HEADER_BYTES)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._header[1], data[start:end], _HEADER_BYTES)

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"")
        self._is_file = self._name == b"file"
        if self._is_file:
            if self.filename is not None:
                raise ApiError(400, "'file': one file is expected", param="file", code="invalid_value")
            self.filename = _filename(options.get(b"filename", b""))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._grow(self._value, data[start:end], _FIELD_BYTES)
            return
        if self._upload.size + end - start > self._most:
            raise ApiError(413, f"a file of at most {self._most} bytes is expected", code="too_large")
        self._upload.write(data[start:end])

    def _on_part_end(self) -> None:
        if not self._is_file:
            name = self._name.decode("utf-8", "replace")[:100]
            self.fields[name] = self._value.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.ended = True

    @staticmethod
    def _grow(buffer: bytearray, data: bytes, most: int) -> None:
        buffer += data
        if len(buffer) > most:
            raise ApiError(400, f"a field of the form is over {most} bytes", code="invalid_form")


_CALLBACKS = (
    *("on_part_begin", "on_part_data", "on_part_end", "on_end"),
    *("on_header_field", "on_header_value", "on_header_end", "on_headers_finished"),
)


async def read_form(request: Request, upload: Upload, limits: Limits) -> FormReader:
    """Read the request's form, its file into `upload`.

    Raises:
        ApiError: its headers claim too much, it is no form, or it is cut short.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ApiError(400, "a multipart/form-data body is expected", code="invalid_form")
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdecimal() or int(claimed) > limits.file_bytes + _FORM_BYTES:
        raise ApiError(413, f"a file of at most {limits.file_bytes} bytes is expected", code="too_large")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(400, "a body without Content-Encoding is expected", code="unsupported_encoding")
    reader = FormReader(options[b"boundary"], upload, limits.file_bytes)
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limits.file_bytes + _FORM_BYTES:
            raise ApiError(413, f"a file of at most {limits.file_bytes} bytes is expected", code="too_large")
        reader.feed(chunk)
    if not reader.ended:
        raise ApiError(400, "the form ends before its closing boundary", code="invalid_form")
    return reader


def _filename(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not 0 < len(name) <= 200 or not name.isprintable() or set(name) & set("/\\") or name.startswith("."):
        message = "'file': a plain file name is expected, without folders"
        raise ApiError(400, message, param="file", code="invalid_value")
    return name


def check(path: Path, suffix: str, limits: Limits) -> None:
    """Read a file to its end: JSON by JSON's bounds, whatever it is for, and anything else as text.

    Args:
        suffix: of its name, such as `.jsonl`.

    Raises:
        ApiError: it is not what its name says, or is out of bounds.
    """
    {".jsonl": check_lines, ".json": check_json}.get(suffix, check_text)(path, limits)


def check_lines(path: Path, limits: Limits) -> int:
    """Read JSONL to its end; the number of its rows.

    Raises:
        ApiError: a line is too long, no JSON object, nested too deep, or has too long a key.
    """
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(bounded_lines(file, limits.line_bytes), 1):
            if line.strip():
                _check_row(number, line)
                count += 1
    if not count:
        raise _bad_file("the file is empty")
    return count


def check_json(path: Path, limits: Limits) -> int:
    """Read a JSON file to its end; the number of its rows.

    Raises:
        ApiError: it is no JSON, or a row is too long, nested too deep, or has too long a key.
    """
    count = 0
    with path.open("rb") as file:
        if file.read(len(_GZIP)) == _GZIP:
            raise _compressed()
        file.seek(0)
        try:
            for line, value in json_file.values(file, limits.line_bytes):
                _check_bounds(line, value)
                count += 1
        except json_file.BadJSON as error:
            raise _bad_file(str(error)) from None
    if not count:
        raise _bad_file("the file is empty")
    return count


def check_text(path: Path, limits: Limits) -> None:
    """Read a text file to its end.

    Raises:
        ApiError: it is compressed, or no UTF-8 text.
    """
    with path.open("rb") as file:
        for number, line in enumerate(bounded_lines(file, limits.line_bytes), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                raise _bad_file(f"line {number}: not UTF-8 text") from None


def bounded_lines(file: IO[bytes], most: int) -> Iterator[bytes]:
    """The lines of a file, none of which may exceed `most` bytes.

    Raises:
        ApiError: one does, or the file is compressed or binary.
    """
    number = 0
    while line := file.readline(most + 1):
        number += 1
        if number == 1 and line.startswith(_GZIP):
            raise _compressed()
        if len(line) > most:
            raise _bad_file(f"line {number}: over {most} bytes")
        if b"\0" in line:
            raise _bad_file(f"line {number}: a NUL byte")
        yield line


def _check_row(number: int, line: bytes) -> None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _bad_file(f"line {number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise _bad_file(f"line {number}: a JSON object is expected")
    _check_bounds(number, row)


def _check_bounds(number: int, value: object) -> None:
    for depth, level in enumerate(levels(value)):
        if depth == _DEEPEST:
            raise _bad_file(f"line {number}: nested deeper than {_DEEPEST} levels")
        if any(len(key) > _LONGEST_KEY for part in level if isinstance(part, dict) for key in part):
            raise _bad_file(f"line {number}: a key of over {_LONGEST_KEY} characters")


def _compressed() -> ApiError:
    return _bad_file("the file is compressed; upload it as plain text")


def _bad_file(message: str) -> ApiError:
    return ApiError(400, f"'file': {message}", param="file", code="invalid_file")
