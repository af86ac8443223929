"""Work beside the loop: one at a time, and its errors come up in the loop."""

from __future__ import annotations

import threading

import pytest

from autoalign.training.background import Background


def test_the_caller_goes_on_while_the_work_is_done():
    background, gate, done = Background(), threading.Event(), []
    background.start(lambda: (gate.wait(), done.append(1)))
    background.check()
    assert done == []
    gate.set()
    background.wait()
    assert done == [1]


def test_a_second_piece_waits_for_the_first():
    background, order = Background(), []
    background.start(lambda: order.append(1))
    background.start(lambda: order.append(order[-1] + 1))
    background.wait()
    assert order == [1, 2]


def _full() -> None:
    raise OSError(28, "No space left on device")


def test_an_error_comes_up_once_in_the_next_wait():
    background = Background()
    background.start(_full)
    with pytest.raises(OSError, match="No space left"):
        background.wait()
    background.wait()


def test_an_error_comes_up_before_the_next_piece():
    background, done = Background(), []
    background.start(_full)
    background.join()
    with pytest.raises(OSError, match="No space left"):
        background.start(lambda: done.append(1))
    assert done == []


def test_check_raises_what_has_ended():
    background = Background()
    background.start(_full)
    background.join()
    with pytest.raises(OSError, match="No space left"):
        background.check()
