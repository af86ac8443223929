"""`autoalign-cli data preview`: what a row says, and which of its tokens are trained on."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING

from autoalign import formats
from autoalign.cli.data import _flags
from autoalign.cli.data._tokenizer import Encoder, encoder
from autoalign.records import Conversation, LabelledAnswer, Message

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from autoalign.chat import Encoded

SUMMARY = "show rows, with --tokenizer the tokens that are trained on"
DESCRIPTION = """Show the first rows of a file. With --tokenizer: as the model sees them, what is trained on
in green (between « and » where there is no colour); pairs side by side."""


def run(args: list[str]) -> int:
    """Print the first rows."""
    parser = _flags.file_parser("preview", DESCRIPTION)
    _flags.add_tokenizer(parser)
    parser.add_argument("--n", type=_flags.positive, default=3, metavar="N", help="rows to show (default: 3)")
    options = parser.parse_strict(args)
    records = list(islice(formats.iter_records(options.file, format=options.format), options.n))
    renderer = encoder(options.tokenizer, options.template, options.model_max_length)
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for record in records:
        _show(record, renderer, console)
    return 0


def _show(record: formats.Record, renderer: Encoder | None, console: Console) -> None:
    from rich.rule import Rule

    title = f"{record.source}:{record.line}  id {record.id}"
    if console.is_terminal:
        console.print(Rule(title))
    else:
        console.print(f"== {title}", markup=False)
    if renderer is None:
        _show_text(record, console)
        return
    sides = renderer.sides(record)
    _side_by_side({name: _tokens(side, renderer, console) for name, side in sides.items()}, console)
    for name, side in sides.items():
        trained = sum(label >= 0 for label in side.labels)
        cut = f", cut at {renderer.max_length}" if side.truncated else ""
        label = f"{name}: " if name else ""
        console.print(
            f"{label}{len(side.input_ids)} tokens, {trained} of them trained on{cut}\n", markup=False
        )


def _tokens(side: Encoded, renderer: Encoder, console: Console) -> RenderableType:
    from rich.text import Text

    from autoalign import chat

    if console.color_system is None or console.no_color:
        return Text(chat.preview_plain(side, renderer.tokenizer))
    return chat.preview(side, renderer.tokenizer)


def _show_text(record: formats.Record, console: Console) -> None:
    if isinstance(record, Conversation):
        console.print(_turns(record.messages))
        return
    console.print(_turns(record.prompt))
    if isinstance(record, LabelledAnswer):
        _side_by_side({"good" if record.label else "bad": _turns(record.completion)}, console)
        return
    _side_by_side({"chosen": _turns(record.chosen), "rejected": _turns(record.rejected)}, console)


def _turns(messages: tuple[Message, ...]) -> RenderableType:
    from rich.text import Text

    text = Text()
    for message in messages:
        note = "" if message.train else " (not trained on)"
        text.append(f"{message.role}{note}: ", style="bold")
        calls = "".join(f"\n  calls {call}" for call in message.tool_calls)
        text.append(f"{message.content}{calls}\n")
    return text


def _side_by_side(sides: dict[str, RenderableType], console: Console) -> None:
    """Two columns on a terminal; one below the other elsewhere, where lines may be of any length."""
    if len(sides) > 1 and console.is_terminal:
        from rich.table import Table

        table = Table(*sides, expand=True)
        table.add_row(*sides.values())
        console.print(table)
        return
    for name, body in sides.items():
        if name:
            console.print(f"-- {name}", markup=False)
        console.print(body)
