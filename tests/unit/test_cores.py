"""CPUs that engines claim: never the same one twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoalign.sampling.cpu_cores import Cores


@pytest.fixture(autouse=True)
def three_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 9})


def test_two_engines_have_no_cpu_in_common(tmp_path: Path) -> None:
    first, second = Cores(2, tmp_path), Cores(1, tmp_path)
    assert (first.claimed, second.claimed) == ([4, 5], [9])


def test_none_is_claimed_where_too_few_are_free(tmp_path: Path) -> None:
    first, second = Cores(2, tmp_path), Cores(2, tmp_path)
    assert (second.wanted, second.claimed) == (2, [])
    first.release()
    assert Cores(2, tmp_path).claimed == [4, 5]


def test_all_are_wanted_where_no_number_is_given(tmp_path: Path) -> None:
    assert Cores(None, tmp_path).claimed == [4, 5, 9]
    assert Cores(8, tmp_path).wanted == 3


def test_an_engine_has_a_thread_on_each_of_its_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    first, second = Cores(2, tmp_path), Cores(2, tmp_path)
    assert first.variables() == {"OMP_NUM_THREADS": "2", "VLLM_CPU_OMP_THREADS_BIND": "4,5"}
    assert second.variables() == {"OMP_NUM_THREADS": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def test_what_the_user_has_bound_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "4")
    assert Cores(2, tmp_path).variables() == {}
