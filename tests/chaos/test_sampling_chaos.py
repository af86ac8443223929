"""20 seeded faults: whatever happens to a sampling job, its output is the unbroken run's to the byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

from tests.sampling_fault_runs import Befallen, befallen_jobs, check
from tests.sampling_faults import KINDS, MOMENTS, Fault

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(1800)]

SEEDS = range(20)


@pytest.fixture(scope="module")
def befallen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Befallen]:
    with befallen_jobs(tmp_path_factory.mktemp("faults"), SEEDS) as found:
        yield found


def test_the_seeds_are_of_every_kind() -> None:
    faults = [Fault.of(seed) for seed in SEEDS]
    assert {fault.kind for fault in faults} == set(KINDS)
    assert len({fault.moment for fault in faults if fault.kind == "driver"}) == len(MOMENTS) - 1


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: str(Fault.of(seed)))
def test_no_answer_is_lost_or_repeated(seed: int, befallen: Befallen) -> None:
    check(Fault.of(seed), befallen)
