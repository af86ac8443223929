"""Worker counts, and the line about what a cluster lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoalign.cli.flags import config_from_args
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError
from autoalign.room import Need, Supply, missing

NEEDED = ["--model_name_or_path", "m", "--data_path", "d", "--output_dir", "o"]


def _workers(text: str, *more: str) -> SFTConfig:
    return config_from_args(SFTConfig, [*NEEDED, "--num_workers", text, *more], "sft")


def test_fewer_workers_take_more_micro_batches_of_the_same_global_batch():
    config = _workers("2:8", "--gradient_accumulation_steps", "3")
    assert (config.min_workers, config.max_workers) == (2, 8)
    assert [config.micro_batches(workers) for workers in (2, 5, 8)] == [24, 24, 24]
    assert [config.accumulation(workers) for workers in (2, 5, 8)] == [12, 5, 3]


def test_workers_that_share_rows_count_as_one():
    config = _workers("4", "--gradient_accumulation_steps", "3", "--sequence_parallel_size", "2")
    assert (config.micro_batches(4), config.accumulation(4)) == (6, 3)


@pytest.mark.parametrize("text", ["0", "0:2", "3:2", "2:", ":2", "two", "1.5", "1:2:3"])
def test_a_wrong_number_of_workers_is_refused(text: str):
    with pytest.raises(ConfigError, match="num_workers"):
        _workers(text)


def test_workers_that_share_rows_are_a_fixed_number():
    with pytest.raises(ConfigError, match="needs a fixed 'num_workers'"):
        _workers("2:4", "--sequence_parallel_size", "2")


def test_a_range_in_yaml_is_no_number_in_base_60(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text("model_name_or_path: m\ndata_path: [d]\noutput_dir: o\nnum_workers: 1:2\n")
    assert config_from_args(SFTConfig, ["--config", str(path)], "sft").num_workers == "1:2"


def test_what_is_missing_counts_the_room_held_for_the_job_as_free():
    need = Need({"CPU": 4}, fewest=2, most=3)
    supply = Supply(free={"CPU": 2}, total={"CPU": 12}, nodes=[{"CPU": 8}, {"CPU": 4}])
    assert missing(need, 1, supply) == (
        "2 to 3 worker(s) of 4 CPU asked, room for 1. CPU: 12 asked, 6 free, 12 in all"
    )


def test_what_no_node_has_enough_of_is_named():
    need = Need({"CPU": 4, "GPU": 1}, fewest=1, most=1)
    supply = Supply(free={"CPU": 4}, total={"CPU": 4}, nodes=[{"CPU": 2}, {"CPU": 2}])
    assert missing(need, 0, supply) == (
        "1 worker(s) of 4 CPU + 1 GPU asked, room for 0. "
        "CPU: 4 asked, 4 free, 4 in all, and no node has 4 (the largest 2); GPU: 1 asked, in no node"
    )
