"""Self-Instruct (arXiv:2212.10560) on a scripted model, and its ROUGE-L filter against the definition."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest

from autoalign import synthesis
from autoalign.synthesis import Ask, Job, Reply, Row, Seed
from autoalign.synthesis._instances import Instance, read_instances, refuse_instances
from autoalign.synthesis._rouge import RougePool, rouge_l

SEEDS = tuple(f"Seed task number {word} about {word}" for word in "abcdefghij")


class Model:
    """Writes `tasks` when asked for some; does the others."""

    def __init__(self, tasks: Sequence[str | Reply], **replies: str) -> None:
        self._tasks = iter(tasks)
        self._replies = {"kind": "No", "instances": "Output: done", **replies}
        self.asks: list[Ask] = []

    def __call__(self, asks: Sequence[Ask]) -> list[Reply]:
        self.asks += asks
        said = [
            next(self._tasks) if ask.key.endswith("/tasks") else self._replies[ask.key.rsplit("/", 1)[-1]]
            for ask in asks
        ]
        return [one if isinstance(one, Reply) else Reply(one) for one in said]

    def shown(self, suffix: str) -> list[str]:
        return [ask.messages[-1].content for ask in self.asks if ask.key.endswith(suffix)]


def rows_of(model: Model, count: int, **options: Any) -> list[Row]:
    method = synthesis.build("self_instruct", **options)
    job = Job([Seed(f"s{i}", text) for i, text in enumerate(SEEDS)], method.prompts(), model, batch_size=1)
    return list(islice(method.run(job), count))


def test_a_new_task_becomes_a_row() -> None:
    (row,) = rows_of(Model(["Task 9: Name four rivers of Peru"]), 1)
    assert [m.content for m in row.messages] == ["Name four rivers of Peru", "done"]
    assert row.facts == {"instruction": "Name four rivers of Peru", "classification": False}


def test_eight_tasks_are_shown_two_of_them_made_before() -> None:
    first = "\n".join(["Task 9: Name four rivers of Peru", "Task 10: Plan a picnic in the rain",
                       "Task 11: Praise a modest wooden chair"])  # fmt: skip
    model = Model([first, "Task 9: Explain how locks hold water"])
    rows_of(model, 4)
    before, after = (
        [line for line in text.splitlines() if line.startswith("Task")] for text in model.shown("/tasks")
    )
    shown = [line.split(": ", 1)[1] for line in before], [line.split(": ", 1)[1] for line in after]
    assert [sum(task in SEEDS for task in tasks) for tasks in shown] == [8, 6]
    assert len(set(shown[1])) == 8


def test_the_classification_decides_what_is_written_first() -> None:
    model = Model(
        ["Task 9: Sort fruit by its colour"], kind="Yes", instances="Class label: red\nInput: cherry"
    )
    (row,) = rows_of(model, 1)
    assert [m.content for m in row.messages] == ["Sort fruit by its colour\ncherry", "red"]
    assert "Class label" in model.shown("/instances")[0]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        # Five of six words of a seed with one other in its place: 2 * 5 / 12 = 0.83.
        ("Seed task number a about mud", "like an earlier instruction"),
        # Four of six: 2 * 4 / 12 = 0.67, under 0.7.
        ("Seed task number a versus mud", None),
        ("Describe the picture above in detail", "an excluded word"),
        ("Sing along now", "an instruction too short or too long"),
        ("word " * 151, "an instruction too short or too long"),
    ],
)
def test_which_instructions_join_the_pool(task: str, reason: str | None) -> None:
    (row,) = rows_of(Model([f"Task 9: {task}"]), 1)
    assert row.reason == reason


def test_an_instruction_is_compared_with_those_of_the_same_answer_too() -> None:
    twice = "1. Name four rivers of Peru\n2. Name four rivers in Peru"
    rows = rows_of(Model([twice]), 2)
    assert rows[0].facts["rouge_l"] == 0.8  # 2 * 4 / 10
    assert [row.reason for row in rows] == ["like an earlier instruction", None]


def test_a_list_that_was_cut_off_loses_its_last_task() -> None:
    cut = Reply("Task 9: Name four rivers of Peru\nTask 10: Plan a", "length")
    (row,) = rows_of(Model([cut]), 1)
    assert row.messages[0].content == "Name four rivers of Peru"


def test_an_answer_without_a_task_is_told() -> None:
    (row,) = rows_of(Model(["I would rather not."]), 1)
    assert (row.reason, row.facts) == ("no task in the answer", {"said": "I would rather not."})


def test_instances_are_read_field_by_field() -> None:
    text = "Example 1\nInput: 2 and 3\nOutput: 5\n\nExample 2\nInput: 4\nand 5\nOutput: 9\nOutput: alone"
    assert read_instances(Reply(text), label_first=False) == [
        Instance("2 and 3", "5"), Instance("4\nand 5", "9"), Instance("", "alone"),
    ]  # fmt: skip
    labels = "Class label: odd\nInput: 3\n**Class label:** even\nInput: 4"
    assert read_instances(Reply(labels), label_first=True) == [Instance("3", "odd"), Instance("4", "even")]
    assert read_instances(Reply(text, "length"), label_first=False)[-1] == Instance("4\nand 5", "9")


@pytest.mark.parametrize(
    ("instances", "reasons"),
    [
        ([("a", "1"), ("a", "1"), ("b", "1")], [None, "an instance that was there before", None]),
        ([("a", "1"), ("a", "2"), ("b", "1")], ["one input with two outputs"] * 3),
        ([("a", ""), ("b", "b")], ["an instance without an output", "the output repeats the input"]),
    ],
)
def test_which_instances_are_dropped(instances: list[tuple[str, str]], reasons: list[str | None]) -> None:
    given = [Instance(*instance) for instance in instances]
    assert [reason for _, reason in refuse_instances(given)] == reasons


def test_rouge_l_of_lins_examples() -> None:
    """Lin 2004, section 3.1: three of four words in order, then two of four."""
    assert rouge_l("police killed the gunman", "police kill the gunman") == 0.75
    assert rouge_l("police killed the gunman", "the gunman kill police") == 0.5
    assert rouge_l("你好世界", "你好吗") == pytest.approx(2 * 2 / 7)


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    draw = random.Random(3)
    for _ in range(50):
        one, other = ([draw.choice("abcde") for _ in range(draw.randint(1, 12))] for _ in range(2))
        expected = 2 * longest_common(one, other) / (len(one) + len(other))
        assert rouge_l(" ".join(one), " ".join(other)) == pytest.approx(expected)


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """By the recurrence of the definition."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_the_most_similar_of_many_is_found() -> None:
    pool = RougePool()
    for text in ("one two three", "one two four", "five"):
        pool.add(text)
    assert pool.most_like("one two four six", 0.7) == (pytest.approx(6 / 7), 1)
    assert pool.most_like("seven", 0.7) is None
