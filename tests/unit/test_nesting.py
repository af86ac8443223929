"""Levels of mappings and lists, counted without recursion."""

import pytest

from autoalign.jobs.nesting import is_deeper, levels


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_each_level_holds_what_is_nested_there():
    inner = {"c": 1}
    assert list(levels({"a": [inner, 2], "b": "text"})) == [
        [{"a": [inner, 2], "b": "text"}],
        [[inner, 2]],
        [inner],
    ]


@pytest.mark.parametrize(("depth", "deeper"), [(0, False), (2, False), (3, False), (4, True), (9999, True)])
def test_more_than_three_levels(depth, deeper):
    assert is_deeper(nested(depth), 3) is deeper
