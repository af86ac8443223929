"""Answers on their way from an engine's loop to the thread that waits: bundles, none lost, errors last."""

from __future__ import annotations

import asyncio
import time

import pytest

from autoalign.sampling import mailbox
from autoalign.sampling.mailbox import Mailbox
from autoalign.sampling.messages import Answer


def answer(prompt: int) -> Answer:
    return Answer(prompt, 0, "x", "stop", 1, 1, 5, None, 1.0)


def prompts(box: Mailbox) -> list[int]:
    return [one.prompt for one in box.take().answers]


def test_what_finishes_within_a_moment_comes_together() -> None:
    async def main() -> Mailbox:
        box = Mailbox(asyncio.get_running_loop())
        for number in range(3):
            box.put(answer(number))
        await asyncio.sleep(2 * mailbox.MOMENT)
        box.put(answer(3))
        box.end()
        return box

    bundles = [([one.prompt for one in bundle.answers], bundle.is_last) for bundle in asyncio.run(main())]
    assert bundles == [([0, 1, 2], False), ([3], True)]


def test_a_bundle_is_no_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MOST", 2)

    async def main() -> Mailbox:
        box = Mailbox(asyncio.get_running_loop())
        for number in range(5):
            box.put(answer(number))
        box.end()
        return box

    assert [len(bundle.answers) for bundle in asyncio.run(main())] == [2, 2, 1]


def test_an_error_comes_behind_what_had_finished() -> None:
    async def main() -> Mailbox:
        box = Mailbox(asyncio.get_running_loop())
        box.put(answer(0))
        box.fail(ValueError("gone"))
        return box

    box = asyncio.run(main())
    assert prompts(box) == [0]
    with pytest.raises(ValueError, match="gone"):
        box.take()


def test_an_engine_that_is_asked_by_its_answers_does_not_wait_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of six answers at work three come together; then two of the three that are left, then the last one."""
    monkeypatch.setattr(mailbox, "MOMENT", 60.0)

    async def main() -> Mailbox:
        box = Mailbox(asyncio.get_running_loop())
        box.expect(6)
        for number in range(6):
            box.put(answer(number))
        return box

    begun = time.monotonic()
    box = asyncio.run(main())
    assert [prompts(box) for _ in range(3)] == [[0, 1, 2], [3, 4], [5]]
    assert time.monotonic() - begun < 30
