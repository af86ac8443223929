"""Rows to tensors, by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from autoalign.training.batches import collate
from autoalign.training.tokens import TokenRow

# Row 0: tokens 5 6 7, the last two are trained on. Row 1: 8 9, the last one.
ROWS = [
    TokenRow(np.array([5, 6, 7], np.int32), np.array([False, True, True])),
    TokenRow(np.array([8, 9], np.int32), np.array([False, True])),
]


def test_padding_free_lays_rows_end_to_end():
    batch = collate(ROWS, padding_free=True)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.row_lengths == (3, 2)
    assert batch.attention_mask is None


def test_a_token_is_predicted_from_the_one_before():
    batch = collate(ROWS, padding_free=True)
    assert batch.predict_from.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]


def test_padded_rows_predict_the_same_targets():
    batch = collate(ROWS, padding_free=False, pad_token_id=1)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 1]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.predict_from.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]
    assert batch.tokens == 5


def test_a_rows_first_token_is_never_predicted_from_its_neighbour():
    trained_from_the_start = TokenRow(np.array([8, 9], np.int32), np.array([True, True]))
    batch = collate([ROWS[0], trained_from_the_start], padding_free=True)
    assert batch.targets.tolist() == [6, 7, 9]


@pytest.mark.parametrize("padding_free", [True, False])
def test_no_rows_make_a_batch_without_a_loss(padding_free: bool):
    batch = collate([], padding_free)
    assert batch.input_ids.numel() == 1
    assert batch.targets.numel() == 0


# A pair that begins with 5 6 in both; the answers 7 8 and 9 are trained on.
PAIR = [
    TokenRow(np.array([5, 6, 7, 8], np.int32), np.array([False, False, True, True])),
    TokenRow(np.array([5, 6, 9], np.int32), np.array([False, False, True])),
]


def test_a_pairs_prompt_is_laid_out_once():
    batch = collate([*PAIR, *PAIR], padding_free=True, shares_prompts=True)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2, 0, 1, 2, 3, 2]]
    assert batch.row_lengths == (4, 1, 4, 1)
    assert batch.shared_lengths == (0, 2, 0, 2)


def test_the_second_answers_first_token_is_predicted_from_the_shared_prompt():
    batch = collate([*PAIR, *PAIR], padding_free=True, shares_prompts=True)
    assert batch.predict_from.tolist() == [1, 2, 1, 6, 7, 6]
    assert batch.targets.tolist() == [7, 8, 9, 7, 8, 9]
    assert batch.answer_lengths == (2, 1, 2, 1)
    assert batch.last_tokens.tolist() == [3, 4, 8, 9]


def test_the_same_answer_twice_keeps_a_token_of_its_own():
    batch = collate([PAIR[0], PAIR[0]], padding_free=True, shares_prompts=True)
    assert batch.row_lengths == (4, 1)
    assert batch.predict_from.tolist() == [1, 2, 1, 2]
