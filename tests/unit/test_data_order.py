"""Which rows meet in which step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoalign.training.order import Budget, DataOrder, balance
from autoalign.training.packing import Bin, cut, pack

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=200)


def _rows(order: DataOrder, steps: range) -> list[int]:
    return [row for step in steps for part in order.step(step) for row in part]


@given(LENGTHS, st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans())
def test_every_row_comes_once_an_epoch(lengths, size, parts, packed, grouped):
    order = DataOrder(lengths, size, parts, seed=1, capacity=64 if packed else None, group_by_length=grouped)
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        assert sorted(_rows(order, steps)) == list(range(len(lengths)))


@given(LENGTHS)
def test_two_workers_share_what_one_would_take(lengths):
    one = DataOrder(lengths, micro_batch_size=4, micro_batches=1, seed=3)
    two = DataOrder(lengths, micro_batch_size=2, micro_batches=2, seed=3)
    for step in range(one.steps_per_epoch):
        assert sorted(_rows(one, range(step, step + 1))) == sorted(_rows(two, range(step, step + 1)))


def test_a_step_does_not_depend_on_those_before():
    order, fresh = (DataOrder(list(range(1, 50)), 2, 2, seed=5) for _ in range(2))
    for step in range(20):
        order.step(step)
    assert order.step(20) == fresh.step(20)


@pytest.mark.parametrize("capacity", [None, 4])
def test_the_rows_are_arranged_once_an_epoch(capacity):
    arranged = []

    class Watched(DataOrder):
        def _arrange(self, epoch: int) -> list[Bin]:
            arranged.append(epoch)
            return super()._arrange(epoch)

    # 12 rows, two steps of 6 an epoch; or, as two rows of 2 fill 4 tokens, 6 bins and one step.
    order = Watched([2] * 12, micro_batch_size=3, micro_batches=2, seed=0, capacity=capacity)
    for step in range(3 * order.steps_per_epoch):
        order.step(step)
        assert order.steps_per_epoch == (2 if capacity is None else 1)  # as the loop asks in each step
    assert arranged == [0, 1, 2]


def test_epochs_differ_and_seeds_differ():
    order = DataOrder([1] * 64, 8, 1, seed=0)
    other = DataOrder([1] * 64, 8, 1, seed=1)
    assert order.step(0) != order.step(order.steps_per_epoch)
    assert order.step(0) != other.step(0)


def test_grouping_puts_similar_lengths_together():
    lengths = [10, 1000] * 32
    order = DataOrder(lengths, 8, 1, seed=0, group_by_length=True)
    for step in range(order.steps_per_epoch):
        assert len({lengths[row] for row in _rows(order, range(step, step + 1))}) == 1


@given(LENGTHS)
def test_packing_holds_every_row_and_overfills_no_bin(lengths):
    bins = pack(range(len(lengths)), lengths, capacity=64)
    assert sorted(row for bin_ in bins for row in bin_) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in bin_) <= 64 for bin_ in bins)


def test_a_bin_is_ended_by_the_rows_that_fill_it():
    # 7 and 6 are over half of 10 and open bins; 3 fits both, and fills the first.
    assert pack([0, 1, 2], [7, 6, 3], capacity=10) == [[0, 2], [1]]


def test_a_row_over_the_capacity_travels_alone():
    assert pack([0, 1], [12, 3], capacity=10) == [[0], [1]]


def test_balance_gives_the_longest_to_the_least_loaded():
    assert balance([[0], [1], [2], [3]], [8, 5, 4, 1], parts=2, room=2) == [[0, 3], [1, 2]]


def _cost(part: list[int], lengths: list[int], padded: bool) -> int:
    own = [lengths[row] for row in part]
    return len(own) * max(own) if padded else sum(own)


@given(LENGTHS, st.integers(1, 100), st.booleans())
def test_micro_batches_keep_to_the_budget_unless_one_row_is_over_it(lengths, budget, padded):
    parts = cut(range(len(lengths)), lengths, budget, padded)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert all(len(part) == 1 or _cost(part, lengths, padded) <= budget for part in parts)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 100), st.booleans(), st.booleans(), st.randoms())
def test_a_budget_cuts_the_same_steps_for_any_number_of_workers(
    lengths, size, tokens, padded, grouped, random
):
    def order(workers: int) -> DataOrder:
        budget = Budget(tokens, lengths, padded, workers)
        return DataOrder(lengths, size, 2, seed=4, group_by_length=grouped, budget=budget)

    one, three, plain = order(1), order(3), DataOrder(lengths, size, 2, seed=4, group_by_length=grouped)
    for epoch in range(2):
        steps = range(epoch * one.steps_per_epoch, (epoch + 1) * one.steps_per_epoch)
        assert sorted(_rows(one, steps)) == list(range(len(lengths)))
    step = random.randrange(2 * one.steps_per_epoch)
    assert [part for part in three.step(step) if part] == one.step(step)
    assert len(three.step(step)) % 3 == 0
    assert sorted(_rows(one, range(step, step + 1))) == sorted(_rows(plain, range(step, step + 1)))


@given(LENGTHS)
def test_packed_bins_are_as_many_in_every_epoch_and_change_their_rows(lengths):
    order = DataOrder(lengths, 1, 1, seed=2, capacity=64)
    for epoch in range(3):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        assert sorted(_rows(order, steps)) == list(range(len(lengths)))


def test_padded_micro_batches_hold_similar_lengths():
    # 4 x 16, 16 x 4 fill 64 tokens each; mixed, a row of 4 would take up 16.
    lengths = [16, 4] * 4 + [4] * 12
    assert [sorted({lengths[row] for row in part}) for part in cut(range(20), lengths, 64, True)] == [
        [16],
        [4],
    ]
