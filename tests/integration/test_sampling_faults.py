"""Faults that befall a sampling job: a dead engine, actor and node on two nodes, a killed driver and a full
disk without Ray; `make chaos` has 20 of them on two nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

from tests.sampling_fault_runs import Befallen, befallen_jobs, check
from tests.sampling_faults import KINDS, Fault

pytestmark = pytest.mark.slow

ALL = [Fault.of(seed) for seed in range(40)]
OF_ONE_PROCESS = [fault for fault in ALL if fault.kind in ("driver", "disk")]
OF_A_CLUSTER = [fault for fault in ALL[: len(KINDS)] if fault not in OF_ONE_PROCESS]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Befallen]:
    seeds = [fault.seed for fault in OF_ONE_PROCESS]
    with befallen_jobs(tmp_path_factory.mktemp("alone"), seeds, with_ray=False) as found:
        yield found


@pytest.fixture(scope="module")
def on_two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Befallen]:
    seeds = [fault.seed for fault in OF_A_CLUSTER]
    with befallen_jobs(tmp_path_factory.mktemp("nodes"), seeds) as found:
        yield found


@pytest.mark.parametrize("fault", OF_ONE_PROCESS, ids=str)
def test_a_killed_driver_or_a_full_disk_loses_and_repeats_nothing(fault: Fault, alone: Befallen) -> None:
    check(fault, alone)


@pytest.mark.parametrize("fault", OF_A_CLUSTER, ids=str)
def test_a_job_survives_its_engine_its_actor_and_its_node(fault: Fault, on_two_nodes: Befallen) -> None:
    check(fault, on_two_nodes)
