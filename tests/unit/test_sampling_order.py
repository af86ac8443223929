"""The order in which prompts are asked."""

from __future__ import annotations

from autoalign.sampling.order import arranged
from autoalign.sampling.prompts import Prompt


def asked(*token_ids: tuple[int, ...]) -> list[str]:
    """Names of prompts, `0` for the first given, in the order in which they are asked."""
    prompts = [Prompt(i, str(i), (), ids) for i, ids in enumerate(token_ids)]
    return [prompt.id for prompt, _ in arranged((prompt, [0]) for prompt in prompts)]


def test_long_prompts_are_asked_first() -> None:
    assert asked((1,) * 2, (2,) * 9, (3,) * 5) == ["1", "2", "0"]


def test_prompts_that_begin_alike_stay_together() -> None:
    """Two share their first 32 tokens; another one's length lies between theirs."""
    shared = tuple(range(32))
    assert asked((*shared, 5), (7,) * 40, (*shared, *range(20))) == ["2", "0", "1"]


def test_prompts_without_tokens_keep_their_order() -> None:
    assert asked((), (), ()) == ["0", "1", "2"]
