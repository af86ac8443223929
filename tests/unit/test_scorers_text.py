"""The exact and choice scorers: letters and texts found in answers."""

import pytest

from autoalign.scoring.scorers.choice import find_letter
from autoalign.scoring.scorers.exact import plain


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("A is tempting, but the correct answer is: C", "C"),
        ("**D**", "D"),
        ("B. Because A is wrong.", "B"),
        (r"So \boxed{C}", "C"),
        ("答案是B", "B"),
        ("I think it must be (D) in the end", "D"),
        ("I have no idea", None),
        ("It's Apple", None),
    ],
)
def test_the_letter_an_answer_settles_on(text, letter):
    assert find_letter(text) == letter


def test_case_blanks_and_a_full_stop_make_no_difference():
    assert plain("  The  Moon. ") == plain("the moon")
    assert plain("the moons") != plain("the moon")
