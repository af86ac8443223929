"""Numbers and prompts in files without a name: what was put in comes out, in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoalign.sampling import places, prompts
from autoalign.sampling.places import Places
from autoalign.sampling.prompts import Prompt, PromptSpool

NUMBERS = st.integers(-(2**63), 2**63 - 1)
STEPS = st.lists(st.tuples(st.sampled_from(("append", "set", "get")), st.integers(0, 10**6), NUMBERS))


@settings(max_examples=200)
@given(STEPS)
def test_places_are_a_list(steps: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(places, "_TAIL", 4)
        patch.setattr(places, "_CHANGES", 3)
        kept, expected = Places(Path(folder)), list[int]()
        for what, where, value in steps:
            if what == "append" or not expected:
                kept.append(value)
                expected.append(value)
            elif what == "set":
                kept[where % len(expected)] = expected[where % len(expected)] = value
            assert kept[where % len(expected)] == expected[where % len(expected)]
        assert list(kept) == expected
        kept.close()


def a_prompt(index: int, text: str) -> Prompt:
    return Prompt(index, f"p{index}", ({"role": "user", "content": text},), (index,), extra={"k": text})


@settings(max_examples=100)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.lists(st.integers(0, 11), max_size=30))
def test_prompts_come_back_in_any_order(texts: list[str], order: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(prompts, "_KEPT", 2)
        patch.setattr(prompts, "_PIECE", 64)
        spool = PromptSpool(Path(folder))
        for index, text in enumerate(texts):
            spool.add(a_prompt(index, text))
            assert spool[index // 2].extra["k"] == texts[index // 2]  # read while it grows
        for index in order:
            found = spool[index % len(texts)]
            assert (found.messages, found.token_ids) == (
                a_prompt(found.index, texts[found.index]).messages,
                (found.index,),
            )
        spool.discard()
