"""Data in shards: the same training as in memory, in memory that does not grow with the rows."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from ray_jobs_of_tests import ray_cluster

from autoalign import chat, formats, model_folder
from autoalign.cli.main import main
from autoalign.formats import _blocks
from autoalign.training import prepare, shards, stream
from autoalign.training.task import Tables
from autoalign.training.tokens import TokenizeOptions
from tests.compare import same_tensors
from tests.sft_runs import Runner
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    scratch = tmp_path_factory.mktemp("streaming")
    rows = write_conversations(scratch / "rows.jsonl", count=60)
    return Runner(save_tiny_model(scratch / "model"), rows, scratch)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, and several shards in each."""
    monkeypatch.setattr(stream, "SHARD_ROWS", 4)
    monkeypatch.setattr(_blocks, "CHUNK", 600)
    monkeypatch.setattr(prepare.formats, "split", lambda *args: _blocks.split(*args, size=500))


def _prepare(model: Path, rows: Path, cache: Path, with_ray: bool = False) -> shards.ShardedTable:
    tokenizer = model_folder.load_tokenizer(model)
    options = TokenizeOptions(str(model), chat.get_template("chatml", tokenizer), 512, "truncate", cache)
    reading = stream.Reading("sft", None, 0, False, options, prepare._rows_of)
    split = formats.split(formats.parse_sources(rows), "sft", None)
    problems = formats.Problems("stop")
    return stream.prepare(split, reading, tokenizer, split.digest, problems, with_ray).table


def test_a_step_of_all_rows_has_the_loss_that_it_has_in_memory(sft: Runner):
    memory = sft(per_device_train_batch_size=60)
    streamed = sft(per_device_train_batch_size=60, streaming=True)
    assert streamed.column("loss") == pytest.approx(memory.column("loss"), abs=1e-6)
    assert streamed.column("tokens") == memory.column("tokens")


def test_a_resumed_run_ends_at_the_same_weights(sft: Runner):
    values: dict[str, Any] = {"streaming": True, "max_steps": 20, "save_steps": 16}
    unbroken = sft(**values)
    again = sft.fresh(**values, resume=str(unbroken.folder / "checkpoint-16"))
    assert same_tensors(unbroken.folder, again.folder)


def test_a_bad_row_is_named_by_its_line(sft: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = sft.data.read_text().splitlines()
    lines[40] = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]}'
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(lines))
    paths = ["--model_name_or_path", str(sft.model), "--data_path", str(rows), "--launcher", "local"]
    flags = [*paths, "--conv_template_name", "chatml", "--streaming", "--cache_dir", str(tmp_path / "cache")]
    assert main(["sft", *flags, "--output_dir", str(tmp_path / "stopped")]) == 2
    assert f"{rows}:41: messages[1]: the answer is empty" in capsys.readouterr().err
    aside = tmp_path / "aside"
    for _ in range(2):  # the second time from the cache
        shutil.rmtree(aside, ignore_errors=True)
        flags += ["--max_steps", "1", "--on_bad_row", "quarantine", "--output_dir", str(aside)]
        assert main(["sft", *flags]) == 0
        (bad,) = [json.loads(line) for line in (aside / "errors.jsonl").read_text().splitlines()]
        assert (bad["line"], bad["row"]["messages"][0]["content"]) == (41, "Hi")


def test_ray_data_makes_the_same_shards_and_an_actor_gives_them_away(sft: Runner, tmp_path: Path):
    here = _prepare(sft.model, sft.data, tmp_path / "here")
    with ray_cluster(cpus=2):
        tasks = _prepare(sft.model, sft.data, tmp_path / "tasks", with_ray=True)
        table = shards.served(Tables(tasks)).train
        assert isinstance(table, shards.ShardedTable)
        far = replace(table, folder=tmp_path / "another-node")
        assert far.lengths.tolist() == here.lengths.tolist()
        for row in (0, 31, 59):
            assert np.array_equal(far.row(row).input_ids, here.row(row).input_ids)
            assert np.array_equal(far.row(row).supervised, here.row(row).supervised)


def test_memory_does_not_grow_with_the_rows(sft: Runner, tmp_path: Path):
    peaks = []
    for count in (100, 800):
        rows = write_conversations(tmp_path / f"{count}.jsonl", count)
        tracemalloc.start()
        _prepare(sft.model, rows, tmp_path / "cache")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Four numbers of each row are kept: 13 bytes; a row itself is over 2,000.
    assert peaks[1] - peaks[0] < 700 * 500
