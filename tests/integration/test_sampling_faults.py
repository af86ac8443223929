"""A killed driver and a full disk befall a sampling job, without Ray; `make chaos` has 20 faults on nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

from tests.sampling_fault_runs import Befallen, befallen_jobs, check
from tests.sampling_faults import Fault

pytestmark = pytest.mark.slow

ALL = [Fault.of(seed) for seed in range(40)]
OF_ONE_PROCESS = [fault for fault in ALL if fault.kind in ("driver", "disk")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Befallen]:
    seeds = [fault.seed for fault in OF_ONE_PROCESS]
    with befallen_jobs(tmp_path_factory.mktemp("alone"), seeds, with_ray=False) as found:
        yield found


@pytest.mark.parametrize("fault", OF_ONE_PROCESS, ids=str)
def test_a_killed_driver_or_a_full_disk_loses_and_repeats_nothing(fault: Fault, alone: Befallen) -> None:
    check(fault, alone)
