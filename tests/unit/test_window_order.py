"""Which rows meet in which step when they lie in shards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoalign.training.order import Budget, DataOrder
from autoalign.training.windows import WindowedOrder

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def order(sizes: list[int], batch: int = 4, window: int = 3, seed: int = 1, **values) -> WindowedOrder:
    lengths = [1 + row * 7 % 40 for row in range(sum(sizes))]
    return WindowedOrder(lengths, batch, 1, seed, shard_sizes=sizes, window=window, **values)


def rows(order: DataOrder, steps: range) -> list[int]:
    return [row for step in steps for part in order.step(step) for row in part]


@given(SIZES, st.integers(1, 6), st.integers(1, 4), st.booleans(), st.booleans())
def test_every_row_comes_once_an_epoch(sizes, batch, window, packed, grouped):
    made = order(sizes, batch, window, capacity=40 if packed else None, group_by_length=grouped)
    for epoch in range(3):
        steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
        assert sorted(rows(made, steps)) == list(range(sum(sizes)))


@given(SIZES, st.integers(1, 6), st.integers(1, 4))
def test_an_epoch_has_the_steps_that_rows_in_memory_have(sizes, batch, window):
    memory = DataOrder([1] * sum(sizes), batch, 1, seed=0)
    assert order(sizes, batch, window).steps_per_epoch == memory.steps_per_epoch


@given(SIZES, st.randoms())
def test_a_step_does_not_depend_on_those_before(sizes, random):
    used, fresh = order(sizes), order(sizes)
    step = random.randrange(3 * used.steps_per_epoch)
    rows(used, range(step))
    assert used.step(step) == fresh.step(step)


def test_a_step_takes_its_rows_from_one_window_until_what_is_over_comes():
    # 6 shards of 10 in windows of 3: 7 steps of 4 each, and 2 x 2 rows over, which are the last step.
    made = order([10] * 6)
    assert made.steps_per_epoch == 15
    for step in range(14):
        shards = {row // 10 for row in rows(made, range(step, step + 1))}
        assert any(shards <= set(window) for window in made._windows)


def test_epochs_and_seeds_differ():
    made, other = order([20] * 6), order([20] * 6, seed=2)
    assert made.step(0) != made.step(made.steps_per_epoch)
    assert made.step(0) != other.step(0)


def test_a_budget_cuts_a_windows_steps_too():
    lengths = [1 + row * 7 % 40 for row in range(60)]
    budget = Budget(50, lengths, padded=False)
    made = order([10] * 6, batch=8, budget=budget)
    assert all(len(part) == 1 or sum(lengths[row] for row in part) <= 50 for part in made.step(0))
    assert sorted(rows(made, range(1))) == sorted(rows(order([10] * 6, batch=8), range(1)))
