"""A preference said in words, `Verdict: A` or `A is the winner.`: read only where it is sure.

It opens a line or a sentence, names one answer within it, and ends there or goes on with a reason. None is
read from a condition, from one aspect alone, from both answers at once, or where one sentence is for A and
another for B: asking the judge again is better than a guess.
"""

from __future__ import annotations

import re

GAP = r"[ \t*_`\"')\]]*"

# What is named. The letters are as they stand alone: "a" is an article.
_LETTER = r"(?i:(?:assistant|answer|response)[ \t]+)?[*_`\"'(\[]*(?P<{}>{})(?![^\W_])"
_ANY = r"(?i:(?:a[ \t]+)?tie)|A|B"
_OTHER = _LETTER.replace("?P<{}>", "?:").format(_ANY)
_BEST = r"(?i:is[ \t]+the[ \t]+(?:(?:clear|overall)[ \t]+)?(?:winner|better[ \t]+(?:answer|one|response)))"
_SAYS = r"(?:(?i:is\b)|[是为]|[:：=]|[-–—](?=[ \t]))[ \t*_`\"'(\[:：]*"
_CHOICE = re.compile(
    rf"(?i:verdict|winner|better answer|better response|结论){GAP}{_SAYS}{_LETTER.format('named', _ANY)}"
    rf"|(?<!\w){_LETTER.format('subject', '[AB]')}{GAP}{_BEST}"
)

# What stands before it in its line.
_MARKS = r"[ \t#*_`\"'(\[-]*"
_SENTENCE_END = r"(?:(?<!e\.g)(?<!i\.e)(?<!\bvs)[.!?;][\"')\]*_]*[ \t]|[。！？；])"
_LEAD = (
    r"(?:(?:so|thus|hence|therefore|overall|finally|in conclusion|in short)\b[,:]?[ \t]+)?"
    r"(?:(?:my|the|our)[ \t]+)?(?:(?:final|overall|clear)[ \t]+)*(?:最终|最后)?"
)
_BEFORE = re.compile(rf"(?:.*{_SENTENCE_END})?{_MARKS}{_LEAD}{_MARKS}", re.IGNORECASE)

# What stands behind it: an end, or a reason.
_STOP = r"(?:\n|\Z|[.!](?!\w)|[。！]|,?[ \t]*(?i:because|since)\b|，?因为)"
_STATED = rf"(?:[ \t]+(?:{_BEST}|(?i:is[ \t]+better|wins)\b(?:[ \t]+(?i:than)[ \t]+{_OTHER})?))?"
_WORSE = rf"{_OTHER}[ \t]+(?i:is[ \t]+(?:wrong|worse|bad|weaker|incorrect|vague))\b"
_REASON = (
    rf"(?:(?:,|，|[ \t]+[-–—]|[ \t]*\()?[ \t]*(?:(?i:and)[ \t]+)?"
    rf"(?:{_WORSE}|(?i:a|it[ \t]+(?:is|has|does))\b)|[ \t]*>{{1,2}}[ \t]*{_OTHER})"
)
_AFTER_NAMED = re.compile(rf"{GAP}(?:{_REASON}|{_STATED}{GAP}{_STOP})")
_AFTER_SUBJECT = re.compile(rf"{GAP}{_STOP}")


def read_named_choice(text: str) -> str | None:
    """`A`, `B` or `TIE`, where the last one that is named is sure and no other sure one differs."""
    marks = list(_CHOICE.finditer(text))
    if not marks or not _is_sure(marks[-1], text):
        return None
    words = {_word(mark) for mark in marks if _is_sure(mark, text)}
    return words.pop() if len(words) == 1 else None


def _word(mark: re.Match[str]) -> str:
    word = (mark["named"] or mark["subject"]).upper()
    return word if word in ("A", "B") else "TIE"


def _is_sure(mark: re.Match[str], text: str) -> bool:
    line = text.rfind("\n", 0, mark.start()) + 1
    after = _AFTER_NAMED if mark["named"] else _AFTER_SUBJECT
    return bool(_BEFORE.fullmatch(text, line, mark.start()) and after.match(text, mark.end()))
