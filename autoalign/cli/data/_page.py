"""A row as a page for the terminal: its turns, a pair's sides, scores and figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from autoalign.errors import DataError
from autoalign.formats import RawRow, Record
from autoalign.formats._problems import to_json
from autoalign.records import Conversation, LabelledAnswer, Message

if TYPE_CHECKING:
    from rich.console import RenderableType

COLOURS = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
FIGURES = ("model", "index", "finish_reason", "prompt_tokens", "completion_tokens", "seed")
# Escape sequences in a row must not reach the terminal: each control character is shown as its picture.
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
CONTROLS |= dict.fromkeys(range(128, 160), 0xFFFD)
MOST_BROKEN = 2000


def page(raw: RawRow, record: Record | DataError, side_by_side: bool) -> Iterator[RenderableType]:
    """The parts of a page, from top to bottom.

    Args:
        side_by_side: a pair's answers in two columns, else one below the other.
    """
    if isinstance(record, DataError):
        yield from _broken(raw, record)
        return
    row: Mapping[str, Any] = raw.value if isinstance(raw.value, Mapping) else {}
    if isinstance(record, Conversation):
        yield _turns(record.messages)
    elif isinstance(record, LabelledAnswer):
        yield _turns(record.prompt)
        yield from _sides({"good" if record.label else "bad": record.completion}, row, side_by_side)
    else:
        yield _turns(record.prompt)
        yield from _sides({"chosen": record.chosen, "rejected": record.rejected}, row, side_by_side)
    yield from _facts(row)


def title(raw: RawRow, number: int, path: str) -> str:
    """`row 3  data.jsonl:7  id x`."""
    given = raw.value.get("id") if isinstance(raw.value, Mapping) else None
    name = "" if given is None else f"  id {given}"
    return f"row {number:,}  {path}:{raw.line}{name}".translate(CONTROLS)


def _broken(raw: RawRow, problem: DataError) -> Iterator[RenderableType]:
    from rich.text import Text

    yield Text(f"bad row: {problem}".translate(CONTROLS), style="bold red")
    if raw.value is not None:
        text = raw.value if isinstance(raw.value, str) else to_json(raw.value).decode()
        cut = f" ... ({len(text):,} characters)" if len(text) > MOST_BROKEN else ""
        yield Text(text[:MOST_BROKEN].translate(CONTROLS) + cut, style="dim")


def _turns(messages: Iterable[Message]) -> RenderableType:
    from rich.text import Text

    text = Text()
    for message in messages:
        note = "" if message.train else " (not trained on)"
        calls = "".join(f"\n  calls {call}" for call in message.tool_calls)
        text.append(f"{message.role}{note}: ", style=f"bold {COLOURS[message.role]}")
        text.append(f"{message.content}{calls}\n".translate(CONTROLS))
    return text


def _sides(
    sides: Mapping[str, Iterable[Message]], row: Mapping[str, Any], side_by_side: bool
) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    titles = [f"{name} {_score_of_side(row, name)}".rstrip().translate(CONTROLS) for name in sides]
    if side_by_side and len(sides) > 1:
        table = Table(expand=True)
        for name in titles:
            table.add_column(Text(name))
        table.add_row(*map(_turns, sides.values()))
        yield table
        return
    for name, messages in zip(titles, sides.values(), strict=True):
        yield Text(f"-- {name}", style="bold")
        yield _turns(messages)


def _score_of_side(row: Mapping[str, Any], side: str) -> str:
    """A pair's scores, as `data pairs` and `score` write them: `numeric 1`."""
    found = {str(row.get("score", "score")): row.get(f"score_{side}")}
    scores = row.get("scores")
    if isinstance(scores, Mapping):
        found |= {str(name): each.get(side) for name, each in scores.items() if isinstance(each, Mapping)}
    return _listed({name: value for name, value in found.items() if value is not None})


def _facts(row: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Scores, what the scorers tell of them, the reference, and the figures of a sample."""
    from rich.text import Text

    scores, details, extra = (_object(row.get(key)) for key in ("scores", "score_details", "extra"))
    single = {name: value for name, value in scores.items() if not isinstance(value, Mapping)}
    if not scores and "reward" in row:
        single["reward"] = row["reward"]
    lines = {"scores": _listed(single)}
    lines |= {str(name): _listed(_object(given)) for name, given in details.items()}
    lines["reference"] = str(row.get("reference", extra.get("reference", "")))
    lines["sample"] = _listed({name: row[name] for name in FIGURES if name in row})
    for name, line in lines.items():
        if line:
            label = Text(f"{name}: ".translate(CONTROLS), style="bold blue")
            yield label.append(line.translate(CONTROLS), style="not bold default")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
