"""What a judge's text says, and what only looks like a verdict: nonsense is never a score."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import autoalign
from autoalign.judging.verdicts import (
    read_grade,
    read_points,
    read_preference,
    read_reaction,
    read_strength,
)

PROMPTS = Path(autoalign.__file__).parent / "prompts"


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("Score: 3", 3), ("Score: **4**", 4), ("**Score:** 2 points.", 2), ("Score - 3", 3),
        ("score of 5", None), ("Score: 4/5", 4), ("Score: 4 / 5.", 4), ("Score: 4 out of 5", 4),
        ("Score: **4** out of 5", 4),
        ("I give a score of 4 to this answer.", None), ("Score: 0\n\nA short answer.", 0), ("[Score: 4]", 4),
        ("Score: 3 or 4?\nScore: 4", 4), ("Score: 3 or 4? Score: 4", None),
        ("Score: 4/5 - 1 point lost", 4), ("Score: 4/5, 1 lost", 4),
        ("Score: 4 out of 5, 1 point lost", 4), ("Score: 4, 3 mistakes were found", 4),
        ("Score: -3", None), ("Score: −3", None), ("Score: +3", None),
        ("Score: 3 out of 10", None), ("Score: 3 points out of 100", None), ("Score: 3 out of ten", None),
        ("a score of 0 to 5", None), ("Score: 3-4", None), ("Score: 3 – 4", None), ("Score: 3~4", None),
        ("Score: 1, 2, 3, 4, 5", None), ("Score: 3 or 4", None), ("Score: 3 and 4", None),
        ("Score: 5%", None), ("Score: 1,000", None), ("Score: 1,000 points", None),
        ("Score: 4 1/2", None), ("Score: 3/5/10", None),
        ("Score: 4. No, it is Score: 3 or 2", None), (f"Score: {'9' * 5000}", None),
    ],
)  # fmt: skip
def test_points_are_one_whole_number_of_the_scale(text: str, points: int | None) -> None:
    assert read_points(text) == points


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("It is right. Score: 4", 4), ("It is right. **Score: 4/5**.\n", 4), ("Why? Score: 4", None),
        ("It is off topic. Score: 4. Is that so?", None), ("It is bad. Score: 4 would be too much.", None),
        ("Fine.\n**Score: 4**", 4), ("## Score: 4", 4), ("- **Score**: 2", 2), ("> Score: 1", None),
        ("Final score: 3", 3), ("Score: 4 because it is brief", 4), ("Score: 1. It is off topic.", 1),
        ("Score: 5 would be right if it were shorter.\nScore: 2", 2),
        ("It does not get a score of 5 because it repeats itself.", None),
        ("The score of 5 would be too generous here.", None), ("Score: 5 would be too generous here.", None),
        ("Score: 4/5 would be too generous here.", None), ("Score: 3/5 or 4/5", None),
        ("Score: 3/5 and 4/5", None),
        ("The answer says that the final score: 3 goals, was a record. It is off topic.", None),
        ("Score: 3 goals", None), ("It gets no score.\n\n3 facts are wrong.", None),
        ("Score:\n1. It is right.", None), ("Score: 5? No.", None),
        ("Score: 2. That is a score of 4 less 2.", None),
        ("Score: 2, a low score\n\n1. It is brief.", 2),
    ],
)  # fmt: skip
def test_a_remark_about_a_score_is_none(text: str, points: int | None) -> None:
    assert read_points(text) == points


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Rating: [[5]]", 5), ("[[3]] at first. [[7]]", 7), ("[[7]]/10", 7), ("Rating: 8 out of 10", 8),
        ("评分：8分", 8), ("评分：8分，理由充分", 8), ("'综合得分': 4}", 4), ("Rating: 8.5", 8.5),
        ("Rating: 7/10 - 2 minor errors", 7), ("Rating: 8/10 and 2 typos", 8), ("评分：8，3个错误", 8),
        ("[[-3]]", None), ("Rating: -3", None), ("Rating: 6 and 7", None),
        ("Rating: 3 out of 100", None), ("Rating: 7%", None),
        ("Rating: 6 to 8", None), ("Rating: 6 or 7", None), ("Rating: 2024", None), ("评分：6到8分", None),
        ("[[6]] or [[7]]", None), ("[[7]] out of [[10]]", None),
        ("the grade, for example [[5]].", None), ("例如 [[5]]。\n评分：8", 8),
        ("{'事实正确性': 7, '综合得分': 6}", 6), ("综合评分：6", 6), ("例如 [[5]]。评分：8", None),
        ("The answer says that the final score: 3 goals, was a record.", None), ("评分：3个球", None),
        ("A rating: 9 would be too much.", None), ("Rating: 9 would be too much.", None),
    ],
)  # fmt: skip
def test_a_grade_is_one_number_of_the_scale(text: str, grade: float | None) -> None:
    assert read_grade(text) == grade


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("[[A]] or [[B]]? I say [[A]]", "A"), ("[[A]] and then again: [[A]]", "A"), ("[[A]], [[A]]", "A"),
        ("Verdict: A, because B is wrong", "A"), ("Verdict: A and a good one", "A"), ("Verdict: A > B", "A"),
        ("The better answer is A and B is wrong", "A"), ("Verdict: A, B is wrong", "A"),
        ("Winner: B, and A is bad", "B"), ("Verdict: Answer A, and answer B is worse", "A"),
        ("Verdict: A, or B", None), ("Verdict: A or B is fine", None),
        ("Verdict: A or B? Verdict: B.", "B"), ("Verdict: **tie**", "tie"),
        ("Verdict: A, B, or tie", None), ("Verdict: A or B", None), ("Verdict: A=B", None),
        ("Verdict: A/B", None), ("Verdict: A < B", None), ("Verdict: [[A or B]]", None),
        ("Verdict: tie or A", None), ("The better answer: A and B are equal", None),
        ("Winner: Answer A or Answer B", None), ("Winner: A vs. B", None),
        ("Then end with [[A]] or [[B]].", None), ("[[A]], [[B]], or [[tie]].", None), ("[[A]]/[[B]]", None),
        ("[[A]] [[B]]", None), ("**[[A]]** or **[[B]]**", None),
    ],
)  # fmt: skip
def test_a_preference_is_one_choice(text: str, choice: str | None) -> None:
    assert read_preference(text) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Answer A is the better answer. B misses the point.", "A"),
        ("A is the clear winner. B lacks detail.", "A"), ("Final verdict: A is the winner. B is vague.", "A"),
        ("Both are right. Overall, B is the better answer because it is brief.", "B"),
        ("The winner is B", "B"), ("**Final Verdict:** A", "A"), ("结论：A。", "A"), ("最终结论是 B", "B"),
        ("Verdict: B is better than A.", "B"), ("Verdict: A\nTie otherwise", "A"),
        ("Verdict: A (B is worse)", "A"), ("__Winner__: __B__", "B"),
        ("It is short; verdict: B - it is right", "B"),
        ("There is no verdict.\nB is vague.", None), ("Verdict:\nA", None),
        ("The winner: B lacks detail.", None), ("A is clearly the winner: B lacks detail.", None),
        ("The better answer is not A", None), ("I would not say that the winner is A.", None),
        ("At first sight A is the winner.", None), ("Is A the winner?", None), ("Winner: A? Yes.", None),
        ("Verdict: A if length counts", None), ("Verdict: A, unless length counts", None),
        ("A is the winner on style.", None), ("The better answer is A for style, B for depth", None),
        ("Verdict: A is wrong.", None), ("Winner: A's text", None), ("Winner: A and B both", None),
        ("A is the better answer.\nB is the winner.", None), ("Verdict: A. On reflection, winner: B", None),
        ("Give a name (e.g. verdict: A)", None), ("结论：A。B 太含糊。", "A"),
        ("Verdict: A, on style", None), ("Verdict: A (if it may be long)", None), ("Winner: A; tie", None),
        ("Verdict: A, it is right", "A"), ("Verdict: B >> A", "B"),
        ("The winner is A and sometimes B", None), ("Verdict: A - B", None),
    ],
)  # fmt: skip
def test_a_preference_in_words_is_read_where_it_is_sure(text: str, choice: str | None) -> None:
    assert read_preference(text) == choice


MENU = "[[A>>B]] much better\n[[A>B]] better\n[[A=B]] a tie\n[[B>A]] B is better\n[[B>>A]] B is much better\n"


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        (MENU, None),
        (f"{MENU}\nMy verdict is [[A>B]].", 1.0),
        (f"{MENU}My verdict is [[B>A]].", -1.0),
        ("Correctness: [[A>B]]\nClarity: [[A=B]]\nOverall: [[A>B]]", 1.0),
        ("[[A>B]] or [[A>>B]]", None),
    ],
)
def test_a_list_of_strengths_is_no_verdict(text: str, ahead: float | None) -> None:
    assert read_strength(text) == ahead


def test_a_choice_of_reactions_is_no_verdict() -> None:
    assert read_reaction("[[refused]] or [[complied]]") is None
    assert read_reaction("[[refused]] or [[complied]]? It [[complied]], to be exact.") == "complied"


READERS: dict[str, Callable[[str], object]] = {
    "judge/additive.txt": read_points,
    "judge/alignbench.txt": read_grade,
    "judge/arena_hard.txt": read_strength,
    "judge/pairwise.txt": read_preference,
    "judge/pairwise_mistakes.txt": read_preference,
    "judge/refusal.txt": read_reaction,
    "judge/rubric.txt": read_grade,
    "algorithms/cai/feedback.txt": read_preference,
    "algorithms/meta_rewarding/compare.txt": read_preference,
    "synthesis/back_translation/rating.txt": read_points,
    "guided/grade.json": read_grade,
    "guided/points.json": read_points,
    "guided/preference.json": read_preference,
    "guided/reaction.json": read_reaction,
    "guided/strength.json": read_strength,
}


def asked(name: str) -> str:
    """The prompt without what Jinja fills in."""
    text = (PROMPTS / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        return str(json.loads(text)["ask"])
    return re.sub(r"\{([#{%]).*?[#}%]\}", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", READERS)
def test_an_instruction_said_again_is_no_verdict(name: str) -> None:
    """The whole prompt, what is left of it from each paragraph on, each paragraph, each sentence's line."""
    parts = asked(name).split("\n\n")
    lines = [line for part in parts for line in part.splitlines() if not line.startswith("[[")]
    said = [*("\n\n".join(parts[place:]) for place in range(len(parts))), *parts, *lines]
    assert [text for text in said if READERS[name](text) is not None] == []


def test_every_prompt_that_asks_for_a_verdict_is_among_them() -> None:
    asks = re.compile(r"\[\[|square brackets|\"Score: |\"(?:score|grade|preference|reaction|verdict)\\?\"")
    files = [path for suffix in ("txt", "json") for path in PROMPTS.rglob(f"*.{suffix}")]
    named = {
        str(path.relative_to(PROMPTS)) for path in files if asks.search(path.read_text(encoding="utf-8"))
    }
    assert named == set(READERS)
