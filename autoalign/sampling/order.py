"""The order in which prompts are asked; the output is in the input's order whatever it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from autoalign.sampling.prompts import Prompt

Asked = tuple[Prompt, list[int]]

_WINDOW = 4096  # prompts that are looked at together
_BEGINNING = 32  # tokens; the shortest blocks of a prefix cache hold 16, ours on a CPU 32


def arranged(tasks: Iterable[Asked]) -> Iterator[Asked]:
    """Prompts that begin alike together, so that an engine has what they share; of those, long ones first.

    What is long takes longest, and would hold up the end of a job that asks it last.
    """
    rest = iter(tasks)
    while window := list(itertools.islice(rest, _WINDOW)):
        if not any(prompt.token_ids for prompt, _ in window):  # an endpoint cuts them
            yield from window
            continue
        longest: dict[tuple[int, ...], int] = {}
        for prompt, _ in window:
            begins = _beginning(prompt)
            longest[begins] = max(longest.get(begins, 0), len(prompt.token_ids))
        window.sort(key=lambda task: _rank(task[0], longest))
        yield from window


def _rank(prompt: Prompt, longest: dict[tuple[int, ...], int]) -> tuple[int, tuple[int, ...], int]:
    begins = _beginning(prompt)
    return -longest[begins], begins, -len(prompt.token_ids)


def _beginning(prompt: Prompt) -> tuple[int, ...]:
    return prompt.token_ids[:_BEGINNING]
