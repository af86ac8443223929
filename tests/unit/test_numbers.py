"""Numbers found in answers, each expected value read off the text by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoalign.scoring.numbers import Number, boxed, equal, find_number, last_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Natalia sold 48/2 = 24 clips in May.\n#### 72", 72),
        ("#### 1,234", 1234),
        ("#### $1,234.50", Fraction(2469, 2)),
        ("It costs $18 a day.", 18),
        ("He walks 5km", 5),
        ("She has 1,000,000.25 left", Fraction(4000001, 4)),
        ("the list 1,2,3", 3),
        ("3-5 apples", 5),
        ("3 - 5 = -2", -2),
        ("a fall of −7 degrees", -7),
        ("1.5 x 10^3 m", 1500),
        (r"$1.5 \times 10^{-3}$", Fraction(3, 2000)),
        ("2e5", 200_000),
        ("1 1/2 cups", Fraction(3, 2)),
        ("½ of it", Fraction(1, 2)),
        ("答案是３５。", 35),
        (r"$\$18$", 18),
        (r"1{,}000", 1000),
        (r"-\dfrac{3}{4}", Fraction(-3, 4)),
        (r"2\frac{1}{2}", Fraction(5, 2)),
        (".5", Fraction(1, 2)),
        ("the answer is **18**.", 18),
    ],
)
def test_the_last_number_is_read(text, value):
    assert find_number(text) == Number(Fraction(value))


@pytest.mark.parametrize("text", ["", "none at all", "1/0", "9" * 5000])
def test_what_is_no_number(text):
    assert find_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("She pays $1,234, in total.", 1234),
        ("10,000, so that is it", 10_000),
        ("12,34,567 and 1,2345", 2345),  # no groups of three
        ("#### Step 3: add up\nSo it is 7.", 7),
        ("#### 3. Add up\nSo it is 7.", 7),
        ("#### 18 dollars\nSince 9 * 2 is that.", 18),
        ("#### $1,200.50\nOf 3 people.", Fraction("1200.5")),
        ("#### The answer is 42\nSince 6 times 7.", 42),
        ("#### -.5\nbelow 0", Fraction("-0.5")),
    ],
)
def test_thousands_end_at_a_comma_and_a_heading_is_no_result(text, value):
    assert find_number(text) == Number(Fraction(value))


def test_a_box_comes_before_hashes_and_these_before_the_last_number():
    text = "\\boxed{4}\n#### 5\n6"
    assert find_number(text) == Number(Fraction(4))
    assert find_number(text, "hashes") == Number(Fraction(5))
    assert find_number(text, "last") == Number(Fraction(6))
    assert find_number("6", "boxed") is None


def test_a_box_may_hold_braces_and_units():
    assert boxed(r"\boxed{1} then \boxed{\frac{1}{2}\text{ km}}") == r"\frac{1}{2}\text{ km}"
    assert find_number(r"\boxed{\frac{1}{2}\text{ km}}") == Number(Fraction(1, 2))


def test_a_box_that_is_cut_off_does_not_count():
    assert boxed(r"\boxed{7} and \boxed{8") == "7"


def test_percent_is_the_number_and_the_share():
    half = last_number("50 %")
    assert half == Number(Fraction(50), percent=True)
    assert equal(half, Number(Fraction(1, 2)), 0)
    assert equal(half, Number(Fraction(50)), 0)
    assert not equal(half, Number(Fraction(5)), 0)
    assert not equal(half, Number(Fraction(1, 2), percent=True), 0)


def test_tolerance_is_relative_to_what_is_expected():
    assert equal(Number(Fraction(1001)), Number(Fraction(1000)), 0.001)
    assert not equal(Number(Fraction(1002)), Number(Fraction(1000)), 0.001)


def test_below_one_tolerance_is_absolute():
    assert equal(Number(Fraction(11, 1000)), Number(Fraction(1, 100)), 0.001)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "It is {}.", "#### {}", r"\boxed{{{}}}"]))
def test_any_integer_is_read_back_with_and_without_separators(number, sentence):
    assert find_number(sentence.format(number)) == Number(Fraction(number))
    assert find_number(sentence.format(f"{number:,}")) == Number(Fraction(number))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6))
def test_any_decimal_is_read_back(number):
    assert find_number(f"x = {number:f}") == Number(Fraction(number))


@given(st.text(max_size=200) | st.text(alphabet="0123456789/.,-+eE{}\\fracboxed#% x^*", max_size=60))
def test_no_text_breaks_it(text):
    find_number(text)
