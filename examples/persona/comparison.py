"""Before and after, side by side: the persona rule, and the tables that `run.py` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

# Every answer in data/persona_sft.jsonl has at least two of these; an untrained model says none of them.
PERSONA_WORDS = ("Bramwick", "Gullstone", "Ahoy", "Fair winds", "一帆风顺")
_PERSONA = re.compile(r"\b(?:Bramwick|Gullstone|Ahoy|Fair winds)\b|一帆风顺", re.IGNORECASE)


def shows_persona(answer: str) -> bool:
    """The rule: an answer shows the persona when it holds one of `PERSONA_WORDS`, in any case."""
    return _PERSONA.search(answer) is not None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One unseen question and what the model said before and after training."""

    question: str
    before: str
    after: str


def read_answers(path: Path) -> dict[str, tuple[str, str]]:
    """Question and answer for each prompt id, from what `autoalign-cli infer` wrote."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["prompt_id"]: (_question(row["messages"]), row["text"].strip()) for row in rows}


def count_output_tokens(path: Path) -> int:
    """Tokens generated in a file that `autoalign-cli infer` wrote."""
    return sum(
        json.loads(line)["completion_tokens"] for line in path.read_text(encoding="utf-8").splitlines()
    )


def compare(before: Path, after: Path) -> list[Comparison]:
    """Pair the answers of two `infer` files by prompt id, in the first one's order."""
    later = read_answers(after)
    return [
        Comparison(question, answer, later[key][1])
        for key, (question, answer) in read_answers(before).items()
    ]


def persona_share(answers: Sequence[str]) -> float:
    """Share of the answers that show the persona, 0 to 1."""
    return sum(map(shows_persona, answers)) / len(answers)


def answers_table(rows: Sequence[Comparison]) -> Table:
    """question | before | after | persona, with the two shares in the last line."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="The same unseen questions, before and after", show_lines=True, show_footer=True)
    before = persona_share([row.before for row in rows])
    after = persona_share([row.after for row in rows])
    table.add_column("question", "show the persona", ratio=2, overflow="fold")
    table.add_column("before", f"{before:.0%}", ratio=4, style="dim", overflow="fold")
    table.add_column("after", f"{after:.0%}", ratio=4, overflow="fold")
    table.add_column("persona", f"{before:.0%} -> {after:.0%}", justify="center", no_wrap=True)
    for row in rows:
        table.add_row(escape(row.question), escape(row.before), escape(row.after), _marks(row))
    return table


def _marks(row: Comparison) -> str:
    signs = ("[green]✓[/]" if shows_persona(answer) else "[red]✗[/]" for answer in (row.before, row.after))
    return " -> ".join(signs)


def _question(messages: Sequence[dict[str, str]]) -> str:
    return next(message["content"] for message in reversed(messages) if message["role"] == "user")
