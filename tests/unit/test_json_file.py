"""One JSON file, read a piece at a time: its values, their lines, and what is out of bounds."""

import io

import pytest

from autoalign.serving.json_file import BadJSON, values


def read(text, most=8):
    content = text if isinstance(text, bytes) else text.encode()
    return list(values(io.BytesIO(content), most))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a":1},\n{"b":2}\n]\n', [(1, {"a": 1}), (2, {"b": 2})]),
        ('\n\n{"a":\n1}', [(3, {"a": 1})]),
        ("1\n2\n\n3\n", [(1, 1), (2, 2), (4, 3)]),  # one on each line
        ("[]", []),
        (" \n ", []),
        ('\ufeff["é"]', [(1, "é")]),
        ("[" + "\n" * 100 + "1]", [(101, 1)]),  # more space than is read at once
        ("[12345678]", [(1, 12345678)]),  # as long as may be
    ],
)
def test_values_and_the_lines_that_they_begin_on(text, expected):
    assert read(text) == expected


def test_a_file_longer_than_what_is_read_at_once():
    numbers = list(range(10_000))
    assert [value for _, value in read(str(numbers))] == numbers


def test_a_character_may_be_cut_by_two_reads():
    assert read('["€€€", "€"]', most=7) == [(1, "€€€"), (1, "€")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[123456789]", "line 1: a value of over 8 characters"),
        ('[\n"' + "x" * 100, "line 2: not JSON, or a value of over 8 characters"),
        ("[1 2]", "line 1: ',' or ']' is expected"),
        ("[1,", "line 1: a value is expected"),
        ("[1,]", "line 1: not JSON"),
        ("[1]\n2", "line 2: more text follows"),
        ("[NaN]", "line 1: not JSON"),
        (b'["\xff"]', "line 1: not UTF-8"),
        (b'["\xe2\x82', "line 1: not UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, message):
    with pytest.raises(BadJSON, match=message):
        read(text)


def test_nesting_without_end_is_refused():
    with pytest.raises(BadJSON, match="line 1: nested too deep"):
        read("[" * 100_000, most=1 << 20)
