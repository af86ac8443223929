"""Flags that the data commands share."""

from __future__ import annotations

import argparse
from typing import Any

from autoalign import formats
from autoalign.cli.flags import Parser


def file_parser(command: str, description: str, several: bool = False) -> Parser:
    """A parser with FILE and `--format`."""
    parser = Parser(prog=f"autoalign-cli data {command}", description=description)
    parser.add_argument("file", metavar="FILE", nargs="+" if several else 1, help="data file or URL")
    parser.add_argument(
        "--format", metavar="NAME", help=f"one of {', '.join(formats.names())} (default: by the rows' keys)"
    )
    return parser


def add_kind(parser: Parser) -> None:
    """`--kind`."""
    parser.add_argument(
        "--kind", choices=("sft", "preference", "unpaired"), help="refuse rows of another kind"
    )


def add_bad_rows(parser: Parser) -> None:
    """`--on-bad-row` and `--errors-path`."""
    add(
        parser,
        "on_bad_row",
        choices=("stop", "quarantine"),
        default="stop",
        help="quarantine appends bad rows to the errors file and goes on (default: stop)",
    )
    add(
        parser,
        "errors_path",
        metavar="PATH",
        default="errors.jsonl",
        help="where quarantined rows go (default: errors.jsonl)",
    )


def add_prompts(parser: Parser) -> None:
    """`--prompts`."""
    parser.add_argument(
        "--prompts", action="store_true", help="check rows to be answered (infer), not trained on"
    )


def add_tokenizer(parser: Parser) -> None:
    """`--tokenizer`, `--template` and `--model_max_length`, under the names that training gives them too."""
    add(parser, "tokenizer", "tokenizer_name_or_path", metavar="PATH", help="model folder or hub name")
    add(
        parser,
        "template",
        "conv_template_name",
        metavar="NAME",
        help="chat template: a name or a .jinja file (default: the tokenizer's own)",
    )
    add(parser, "model_max_length", metavar="N", type=positive, help="tokens a row is cut to")


def add(parser: Parser, *names: str, **options: Any) -> None:
    spellings = [f"--{spelling}" for name in names for spelling in (name, name.replace("_", "-"))]
    parser.add_argument(*dict.fromkeys(spellings), dest=names[0], **options)


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is expected, not '{text}'")
    return int(text)
