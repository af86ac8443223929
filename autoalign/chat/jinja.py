"""Jinja as transformers sets it up for chat templates, with `{% generation %}` marks that survive rendering.

A mark writes a private sentinel before and after its block; `run` takes the
sentinels out again and keeps their places. That needs no state, so threads may
share a compiled template, and it also works for a mark inside a macro.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autoalign.errors import TemplateError

# Random for each process, so that no message can carry it.
_SENTINEL = f"\x00{secrets.token_hex(8)}\x00"
_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

Span = tuple[int, int]


class Rendered(NamedTuple):
    """Rendered text, and the `(start, end)` characters of it that the marks enclose."""

    text: str
    spans: tuple[Span, ...]


class _GenerationMarks(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_enclose"), [], [], body).set_lineno(line)

    def _enclose(self, caller: Callable[[], str]) -> str:
        return f"{_SENTINEL}{caller()}{_SENTINEL}"


def has_marks(source: str) -> bool:
    """Whether a template carries generation marks."""
    return _MARK.search(source) is not None


@lru_cache(maxsize=64)
def compiled(source: str, name: str) -> jinja2.Template:
    """Compile `source`; `name` is what the error calls it.

    Raises:
        TemplateError: the source is not valid Jinja.
    """
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"chat template '{name}', line {error.lineno}: {error.message}") from error


def run(source: str, name: str, variables: Mapping[str, Any]) -> Rendered:
    """Render `source` with `variables`.

    Raises:
        TemplateError: the template refuses the conversation, or fails on it.
    """
    template = compiled(source, name)
    try:
        raw = template.render(**variables)
        raw.encode()  # half a surrogate pair would fail in the tokenizer, without a reason
    except jinja2.TemplateError as error:
        raise TemplateError(f"chat template '{name}' refuses this conversation: {error.message}") from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise TemplateError(
            f"chat template '{name}' fails on this conversation: {type(error).__name__}: {error}"
        ) from error
    return _take_out_sentinels(raw)


def _take_out_sentinels(raw: str) -> Rendered:
    pieces = raw.split(_SENTINEL)
    spans: list[Span] = []
    position = 0
    for index, piece in enumerate(pieces):
        if index % 2:
            spans.append((position, position + len(piece)))
        position += len(piece)
    return Rendered("".join(pieces), tuple(spans))


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationMarks, LoopControls]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter escapes HTML, which no model was trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
