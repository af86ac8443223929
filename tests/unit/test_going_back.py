"""`--resume OUT/checkpoint-N` in the run's own folder: what lay past it goes, what is saved since counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign import chat  # noqa: E402
from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.training import checkpoint, mirror, output, resuming  # noqa: E402
from autoalign.training.checkpoint import Progress  # noqa: E402
from autoalign.training.model import CAUSAL_LM  # noqa: E402
from autoalign.training.saving import Saver  # noqa: E402
from autoalign.training.storage import Storage, connect  # noqa: E402
from autoalign.training.task import TrainTask  # noqa: E402
from autoalign.training.world import World  # noqa: E402

ALONE = World(0, 1, torch.device("cpu"))


def save(folder: Path, step: int, weights: str = "old") -> Path:
    temporary = checkpoint.begin(folder, f"checkpoint-{step}")
    (temporary / "weights").write_text(weights)
    return checkpoint.commit(temporary, Progress(step=step), {})


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoint.find_checkpoints(folder)]


def send(storage: Storage, path: Path) -> None:
    mirror.send(storage, path, path.name, lambda: None, set())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run that has saved checkpoints 100, 200 and 300."""
    for step in (100, 200, 300):
        save(tmp_path / "out", step)
    return tmp_path / "out"


def back_to_100(out: Path, **values: Any) -> TrainTask:
    """The job that a command with `--resume out/checkpoint-100` starts."""
    start = str(out / "checkpoint-100")
    config = SFTConfig(model_name_or_path="m", data_path=["d"], output_dir=str(out), resume=start, **values)
    began = output.claim(config, {})
    return TrainTask(config, "m", chat.get_template("chatml"), {}, resume_from=start, began=began)


def start_of(task: TrainTask, storage: Storage | None = None) -> tuple[str, list[str]]:
    """The checkpoint that an attempt goes on from, and what it says."""
    said: list[str] = []
    found = resuming.find_start(task, ALONE, storage, said.append)
    assert found is not None
    return found.name, said


def test_what_lay_past_it_is_deleted_and_named(out: Path):
    name, said = start_of(back_to_100(out))
    assert name == "checkpoint-100"
    assert names(out) == ["checkpoint-100"]
    assert said == [
        f"going back to {out}/checkpoint-100: deleted checkpoint-200, checkpoint-300 of before in {out}"
    ]


def test_a_restart_before_the_first_save_begins_there_again(out: Path):
    task = back_to_100(out)
    assert [start_of(task)[0] for _ in range(2)] == ["checkpoint-100", "checkpoint-100"]


def test_with_a_limit_the_new_ones_are_kept_and_the_one_gone_back_to(out: Path):
    task = back_to_100(out, save_total_limit=1)
    start_of(task)
    saver = Saver(task, ALONE, engine=None, tokenizer=None, kind=CAUSAL_LM)  # type: ignore[arg-type]
    for step in (150, 160):
        save(out, step, "new")
        saver._prune(None)
    assert names(out) == ["checkpoint-100", "checkpoint-160"]
    assert start_of(back_to_100(out, save_total_limit=1))[0] == "checkpoint-160"


def test_the_same_command_goes_on_from_what_was_saved_since(out: Path):
    start_of(back_to_100(out))
    save(out, 200, "new")
    assert start_of(back_to_100(out))[0] == "checkpoint-200"
    assert (out / "checkpoint-200" / "weights").read_text() == "new"


def test_an_older_one_with_a_higher_step_does_not_hide_a_newer(out: Path):
    task = back_to_100(out)
    checkpoint.drop(out / "checkpoint-200")
    save(out, 200, "new")
    assert start_of(task)[0] == "checkpoint-200"
    assert names(out) == ["checkpoint-100", "checkpoint-200"]


def test_another_step_is_another_wish(out: Path):
    start_of(back_to_100(out))
    save(out, 150, "new")
    start = str(out / "checkpoint-150")
    config = SFTConfig(model_name_or_path="m", data_path=["d"], output_dir=str(out), resume=start)
    output.claim(config, {})
    assert start_of(back_to_100(out))[0] == "checkpoint-100"
    assert names(out) == ["checkpoint-100"]


def test_a_worker_with_a_folder_of_its_own_takes_the_new_one_from_the_storage(out: Path, tmp_path: Path):
    """The storage holds an old 300 and a new 200; this machine, an old 200."""
    storage = connect(str(tmp_path / "there"))
    send(storage, out / "checkpoint-300")
    task = back_to_100(out)
    send(storage, save(tmp_path / "elsewhere", 200, "new"))
    assert start_of(task, storage)[0] == "checkpoint-200"
    assert mirror.whole_steps(storage) == [200]
    assert (out / "checkpoint-200" / "weights").read_text() == "new"


def test_a_copy_of_another_run_is_fetched_again(out: Path, tmp_path: Path):
    storage = connect(str(tmp_path / "there"))
    send(storage, save(tmp_path / "elsewhere", 200, "new"))
    assert mirror.fetch(storage, "checkpoint-200", out) == []
    assert (out / "checkpoint-200" / "weights").read_text() == "new"
