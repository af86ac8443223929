"""`autoalign-cli data browse`: page through the rows of a file in the terminal."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from autoalign.cli.data import _flags
from autoalign.cli.data._keys import Keys, TerminalKeys
from autoalign.cli.data._page import page, title
from autoalign.cli.data._progress import progress
from autoalign.cli.data._row_window import RowWindow, record_of
from autoalign.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

SUMMARY = "page through rows in the terminal: samples with scores, pairs side by side"
HELP = "space n → next   p ← back   ↓ ↑ scroll   g number   / search   q quit"
DESCRIPTION = """Show rows one at a time: conversations, pairs side by side, samples with their scores. Keys:
space, n or right: next; p or left: back; down and up (j, k): scroll a long row; g: go to a row; /: search
(Enter alone: the next match); q: quit. Where there is no terminal, rows are printed one after the other."""


def run(args: list[str]) -> int:
    """Browse, or print."""
    parser = _flags.file_parser("browse", DESCRIPTION)
    parser.add_argument(
        "--start", type=_flags.positive, default=1, metavar="N", help="first row to show (default: 1)"
    )
    parser.add_argument("--search", metavar="TEXT", help="first row with this text; printed: all with it")
    parser.add_argument(
        "--limit", type=_flags.positive, metavar="N", help="not in a terminal: rows to print (default: all)"
    )
    options = parser.parse_strict(args)
    from rich.console import Console

    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=not interactive)
    rows = RowWindow(options.file[0])
    if interactive:
        Browser(rows, console, options).run(TerminalKeys())
    else:
        print_rows(rows, console, options)
    return 0


def print_rows(rows: RowWindow, console: Console, options: Namespace) -> None:
    """Rows one after the other; with `--search` those that hold the text."""
    number, printed = options.start, 0
    if rows.get(number) is None:
        raise _too_far(rows, number)
    while options.limit is None or printed < options.limit:
        found = rows.find(options.search, number) if options.search else number
        raw = rows.get(found) if found is not None else None
        if found is None or raw is None:
            break
        console.print(f"== {title(raw, found, rows.path)}", markup=False)
        for part in page(raw, record_of(rows.path, raw, options.format), side_by_side=False):
            console.print(part)
        number, printed = found + 1, printed + 1
    if options.search and not printed:
        raise DataError(f"no row from {options.start} on holds '{options.search}'", rows.path)


class Browser:
    """One row a page; `keys` say which."""

    def __init__(self, rows: RowWindow, console: Console, options: Namespace) -> None:
        self._rows, self._console, self._format = rows, console, options.format
        self._number, self._scroll, self._note, self._search = options.start, 0, "", options.search or ""
        with progress():
            row = rows.get(self._number)
            if row is None:
                raise _too_far(rows, self._number)
        self._row = row
        if self._search:
            self._find(self._number)

    def run(self, keys: Keys) -> None:
        """Until q, Ctrl-C or the end of the keys."""
        self._show()
        try:
            while (key := keys.key()) not in ("", "q", "Q", "\x04"):
                self._do(key, keys)
                self._show()
        except KeyboardInterrupt:
            pass

    def _do(self, key: str, keys: Keys) -> None:
        if key in (" ", "n", "right"):
            self._go(self._number + 1)
        elif key in ("p", "left"):
            self._go(self._number - 1)
        elif key in ("j", "down", "k", "up"):
            self._scroll += self._room // 2 if key in ("j", "down") else -(self._room // 2)
        elif key == "g":
            typed = keys.line("row: ").strip().replace(",", "")
            self._go(int(typed)) if typed.isdecimal() else self._say(f"'{typed}' is no row's number")
        elif key == "/":
            self._search = keys.line("search: ") or self._search
            if self._search:
                self._find(self._number + 1)

    def _go(self, number: int) -> None:
        if number < 1:
            self._say("this is the first row")
            return
        with progress():
            row = self._rows.get(number)
        if row is None:
            last = self._rows.read
            self._say("this is the last row" if last == self._number else f"there are {last:,} rows")
            return
        self._number, self._row, self._scroll = number, row, 0

    def _find(self, start: int) -> None:
        with progress():
            found = self._rows.find(self._search, start)
        if found is None:
            self._say(f"no row from {start:,} on holds '{self._search}'")
        else:
            self._go(found)

    def _say(self, note: str) -> None:
        self._note = note

    @property
    def _room(self) -> int:
        """Lines for the row, between the title and the keys."""
        return max(self._console.height - 3, 2)

    def _show(self) -> None:
        from rich.rule import Rule
        from rich.segment import Segments
        from rich.text import Text

        lines = self._lines()
        self._scroll = max(0, min(self._scroll, len(lines) - self._room))
        seen = lines[self._scroll : self._scroll + self._room]
        more = len(lines) - self._scroll - len(seen)
        self._console.clear()
        self._console.print(Rule(Text(title(self._row, self._number, self._rows.path))))
        self._console.print(Segments([part for line in seen for part in line]), end="")
        below = f"{more:,} lines more below   " if more else ""
        self._console.print(Text(f"{self._note or below}{'   ' if self._note else ''}{HELP}", style="dim"))
        self._note = ""

    def _lines(self) -> list[list[Segment]]:
        record = record_of(self._rows.path, self._row, self._format)
        return [
            line
            for part in page(self._row, record, side_by_side=True)
            for line in self._console.render_lines(part, pad=False, new_lines=True)
        ]


def _too_far(rows: RowWindow, number: int) -> DataError:
    return DataError(f"has {rows.read:,} rows; there is no row {number:,}", rows.path)
