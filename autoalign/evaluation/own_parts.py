"""Of prompts that were made from one pattern, what is each one's own."""

from __future__ import annotations

from collections.abc import Sequence


def own_parts(prompts: Sequence[str]) -> list[str]:
    """Each prompt without the lines that all of them begin and end with: examples, instructions.

    One prompt alone is given whole, and one that has no line of its own too.
    """
    lines = [prompt.split("\n") for prompt in prompts]
    if len(lines) < 2:
        return list(prompts)
    start = _common(lines)
    rest = [each[start:] for each in lines]
    end = _common([each[::-1] for each in rest])
    own = ["\n".join(each[: len(each) - end]).strip("\n") for each in rest]
    return [part or prompt for part, prompt in zip(own, prompts, strict=True)]


def _common(lines: Sequence[Sequence[str]]) -> int:
    """How many lines all begin with."""
    count = 0
    while count < min(map(len, lines)) and len({each[count] for each in lines}) == 1:
        count += 1
    return count
