"""Texts as words, for measures that compare them."""

from __future__ import annotations

import re

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case, as the rouge-score package cuts English.

    A character of a script without blanks (Chinese, Japanese) is a word.
    """
    return _WORD.findall(text.lower())
