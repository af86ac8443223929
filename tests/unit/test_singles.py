"""KTO's examples: single answers, and which prompts and answers are crossed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

from autoalign.training.examples import Layout
from autoalign.training.singles import MismatchedLogps, Singles
from autoalign.training.tokens import TokenCounts, TokenTable

LAYOUT = Layout(True, 0)


def singles(rows: list[tuple[list[int], list[int]]], max_length: int = 99) -> Singles:
    """Rows of a prompt's and an answer's ids."""
    columns = [
        pa.array([prompt + answer for prompt, answer in rows], pa.large_list(pa.int32())),
        pa.array([[False] * len(p) + [True] * len(a) for p, a in rows], pa.large_list(pa.bool_())),
        pa.array([None] * len(rows), pa.float32()),
        pa.array([index % 2 == 0 for index in range(len(rows))], pa.bool_()),
    ]
    table = pa.table(columns, names=["input_ids", "supervised", "margin", "label"])
    return Singles(TokenTable(table, TokenCounts(len(rows))), max_length)


ROWS = [([1, 1], [10]), ([2], [20, 21]), ([3, 3], [30])]


def test_each_prompt_gets_the_answer_before_its_own_and_the_first_the_last():
    batch = singles(ROWS).mismatched([0, 1, 2], LAYOUT, step=[2, 0, 1])
    assert batch.input_ids[0].tolist() == [1, 1, 30, 2, 10, 3, 3, 20, 21]
    assert batch.targets.tolist() == [30, 10, 20, 21]


def test_answers_to_the_same_prompt_are_passed_over():
    rows = [([1], [10]), ([1], [11]), ([2], [20])]
    assert singles(rows).partners([0, 1, 2]) == {0: 2, 1: 2, 2: 1}


def test_a_lone_answer_is_crossed_with_one_outside_its_step():
    assert singles(ROWS).partners([2]) == {2: 0}


def test_crossed_rows_are_cut_to_the_longest_length():
    batch = singles(ROWS, max_length=3).mismatched([2], LAYOUT, step=[1, 2])
    assert batch.input_ids[0].tolist() == [3, 3, 20]


def test_the_references_log_probs_are_found_by_prompt_and_answer():
    examples = singles(ROWS)
    keys = examples.crossings([[0, 1, 2], [0, 1]])
    # 3 rows: prompt 0 with answers 1 and 2, prompt 1 with 0, prompt 2 with 1.
    assert keys.tolist() == [1, 2, 3, 7]
    known = MismatchedLogps(keys, np.array([-0.1, -0.2, -0.3, -0.7], np.float32))
    examples = Singles(examples.table, 99, mismatched_ref_logps=known)
    refs = examples.mismatched([0, 1], LAYOUT, step=[0, 1]).ref_logps
    assert refs is not None and refs.tolist() == pytest.approx([-0.1, -0.3])


def test_a_batch_of_none_says_as_the_others_that_the_reference_is_known():
    known = MismatchedLogps(np.array([1], np.int64), np.array([-0.1], np.float32))
    examples = Singles(singles(ROWS).table, 99, np.zeros(3, np.float32), known)
    for batch in (examples.batch([], LAYOUT, step=[0]), examples.mismatched([], LAYOUT, step=[0])):
        assert batch.ref_logps is not None and batch.ref_logps.tolist() == []


def test_a_batch_says_which_answers_are_good():
    batch = singles(ROWS).batch([2, 1], LAYOUT, step=[1, 2])
    assert batch.desirable is not None and batch.desirable.tolist() == [True, False]
