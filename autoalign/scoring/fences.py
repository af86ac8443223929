"""Fenced blocks of Markdown in answers."""

from __future__ import annotations

import re
from collections.abc import Collection

# Whatever its language, so that a block's closing fence is never taken for another's opening one.
_FENCED = re.compile(r"```([^\n`]*)\n(.*?)(?:```|\Z)", re.DOTALL)


def last_block(text: str, languages: Collection[str]) -> str | None:
    """What the last block in one of the languages holds, or in none that is named; None without one.

    A block that was cut off counts.
    """
    blocks = [(info.split()[:1], content) for info, content in _FENCED.findall(text)]
    fitting = [content for named, content in blocks if not named or named[0].lower() in languages]
    return str(fitting[-1]) if fitting else None
