"""Checkpoints in `storage_path`: whole or absent there, hashed, limited, and sent until they arrive."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from autoalign import manifest
from autoalign.errors import ConfigError
from autoalign.training import checkpoint, mirror, uploads
from autoalign.training.best import Best
from autoalign.training.checkpoint import Progress
from autoalign.training.storage import Storage, StorageError, connect
from autoalign.training.uploads import Uploader


@pytest.fixture(params=["memory", "folder", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    urls = {
        "memory": f"memory://{uuid.uuid4().hex}",
        "folder": str(tmp_path / "there"),
        "file": f"file://{tmp_path / 'there'}",
    }
    return connect(urls[request.param])


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _checkpoint(folder: Path, step: int, best: Best | None = None) -> str:
    temporary = checkpoint.begin(folder, f"checkpoint-{step}")
    (temporary / "weights").write_text(str(step))
    return checkpoint.commit(temporary, Progress(step=step), {}, best).name


def _send(storage: Storage, folder: Path, *steps: int) -> None:
    for step in steps:
        name = _checkpoint(folder, step)
        mirror.send(storage, folder / name, name, lambda: None, set())


class Flaky:
    """A file system of which every write fails while `is_away`, or after `left` more writes."""

    def __init__(self, system: Any) -> None:
        self._system = system
        self.is_away, self.left, self.failed = False, 10**9, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def open(self, path: str, mode: str) -> Any:
        if "w" in mode:
            self.left -= 1
            if self.is_away or self.left < 0:
                self.failed.set()
                raise RuntimeError("connection refused\nand a long story")
        return self._system.open(path, mode)


@pytest.fixture
def flaky(tmp_path: Path) -> Storage:
    whole = connect(str(tmp_path / "there"))
    return Storage(whole.url, Flaky(whole.system), whole.root)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def uploader_of(output_dir: Path, told: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploads, "_FIRST_DELAY", 0.01)

    def make(storage: Storage, keep: int | None = None) -> Uploader:
        return Uploader(storage, output_dir, keep, told.append)

    return make


def test_what_was_sent_comes_back_with_its_hashes(storage: Storage, output_dir: Path, tmp_path: Path):
    _send(storage, output_dir, 4)
    assert mirror.whole_steps(storage) == [4]
    assert mirror.fetch(storage, "checkpoint-4", tmp_path / "fresh") == []
    fetched = tmp_path / "fresh" / "checkpoint-4"
    assert manifest.read(fetched) == manifest.read(output_dir / "checkpoint-4")
    assert manifest.damaged_files(fetched) == []


def test_a_checkpoint_without_its_manifest_does_not_count(storage: Storage, output_dir: Path):
    _send(storage, output_dir, 4, 8)
    storage.remove("checkpoint-8/autoalign.json")
    assert mirror.whole_steps(storage) == [4]


def test_a_torn_manifest_does_not_count(storage: Storage, output_dir: Path, tmp_path: Path):
    _send(storage, output_dir, 4)
    torn = tmp_path / "torn.json"
    torn.write_bytes((output_dir / "checkpoint-4" / "autoalign.json").read_bytes()[:-20])
    storage.put(torn, "checkpoint-4/autoalign.json")
    assert mirror.whole_steps(storage) == []


def test_the_manifest_is_sent_last(flaky: Storage, output_dir: Path):
    """weights, trainer/state.json, then the manifest: broken off before any of them, nothing counts."""
    for left in range(3):
        flaky.system.left = left
        with pytest.raises(StorageError, match=r"connection refused$"):
            _send(flaky, output_dir, 4)
        assert mirror.whole_steps(flaky) == []
    flaky.system.left = 3
    _send(flaky, output_dir, 4)
    assert mirror.whole_steps(flaky) == [4]


def test_sending_again_over_a_whole_one_that_breaks_off_leaves_none(flaky: Storage, output_dir: Path):
    _send(flaky, output_dir, 4)
    flaky.system.left = 1
    with pytest.raises(StorageError):
        _send(flaky, output_dir, 4)
    assert mirror.whole_steps(flaky) == []


def test_a_bit_flipped_there_is_seen_when_it_is_fetched(storage: Storage, output_dir: Path, tmp_path: Path):
    _send(storage, output_dir, 4, 8)
    flipped = tmp_path / "flipped"
    flipped.write_text(chr(ord("8") ^ 1))
    storage.put(flipped, "checkpoint-8/weights")
    fresh = tmp_path / "fresh"
    assert mirror.fetch(storage, "checkpoint-8", fresh) == ["weights"]
    assert checkpoint.find_checkpoints(fresh) == []


def test_a_file_damaged_here_is_never_sent_as_whole(storage: Storage, output_dir: Path):
    name = _checkpoint(output_dir, 4)
    (output_dir / name / "weights").write_text("5")
    with pytest.raises(ValueError, match="weights is damaged"):
        mirror.send(storage, output_dir / name, name, lambda: None, set())
    assert mirror.whole_steps(storage) == []


def test_a_manifest_damaged_here_is_said_and_not_sent(storage: Storage, output_dir: Path):
    name = _checkpoint(output_dir, 4)
    (output_dir / name / "autoalign.json").write_bytes(b"")
    with pytest.raises(ValueError, match=r"autoalign\.json is damaged"):
        mirror.send(storage, output_dir / name, name, lambda: None, set())
    assert mirror.whole_steps(storage) == []


def test_only_the_newest_and_the_best_are_kept_there(storage: Storage, output_dir: Path):
    _send(storage, output_dir, 2, 4, 6, 8)
    mirror.prune(storage, 2, best=2)
    assert mirror.whole_steps(storage) == [2, 6, 8]
    assert storage.names("checkpoint-4") == []


def test_deleting_a_run_leaves_what_is_not_its_own(storage: Storage, output_dir: Path, tmp_path: Path):
    _send(storage, output_dir, 2)
    (tmp_path / "notes.txt").write_text("mine")
    storage.put(tmp_path / "notes.txt", "notes.txt")
    storage.put(tmp_path / "notes.txt", "run.json")
    mirror.delete_run(storage)
    assert storage.names() == ["notes.txt"]


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ConfigError, match="storage_path s4://bucket: Protocol not known: s4"):
        connect("s4://bucket")


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("s3://bucket/runs/x?region=eu-west-1", "s3://bucket/runs/x?region=eu-west-1"),
        ("gs://bucket/runs/x", "gs://bucket/runs/x"),
        ("gcs://bucket/runs/x/", "gs://bucket/runs/x/"),
    ],
)
def test_object_stores_are_reached_through_pyarrow(
    url: str, asked: str, tmp_path: Path, output_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    """A folder stands for the store behind pyarrow's client; the bucket is the first part of the path."""
    from pyarrow import fs

    urls: list[str] = []

    class Client:
        @staticmethod
        def from_uri(uri: str) -> tuple[fs.FileSystem, str]:
            urls.append(uri)
            store = fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem())
            return store, uri.partition("://")[2].partition("?")[0]

    monkeypatch.setattr(fs, "FileSystem", Client)
    storage = connect(url)
    assert (urls, storage.url, storage.root) == ([asked], url, "bucket/runs/x")
    assert storage.names() == [] and storage.read_json("run.json") == {}
    _send(storage, output_dir, 4, 8)
    there = tmp_path / "store" / "bucket" / "runs" / "x"
    assert manifest.damaged_files(there / "checkpoint-8") == []
    mirror.prune(storage, 1, None)
    assert mirror.whole_steps(storage) == [8]
    assert mirror.fetch(storage, "checkpoint-8", tmp_path / "fresh") == []
    assert manifest.damaged_files(tmp_path / "fresh" / "checkpoint-8") == []


def test_uploads_arrive_in_the_background(storage: Storage, output_dir: Path, uploader_of: Callable):
    uploader = uploader_of(storage, keep=2)
    for step in (1, 2, 3):
        uploader.submit(_checkpoint(output_dir, step), best=1)
    assert uploader.finish(60) is None
    assert mirror.whole_steps(storage) == [1, 2, 3]
    uploader = uploader_of(storage, keep=1)
    uploader.submit(_checkpoint(output_dir, 4), best=1)
    assert uploader.finish(60) is None
    assert mirror.whole_steps(storage) == [1, 4]


def test_a_storage_that_comes_back_gets_everything(
    flaky: Storage, output_dir: Path, uploader_of: Callable, told: list[str]
):
    flaky.system.is_away = True
    uploader = uploader_of(flaky)
    uploader.submit(_checkpoint(output_dir, 1))
    uploader.submit(_checkpoint(output_dir, 2))
    assert flaky.system.failed.wait(60)
    flaky.system.is_away = False
    assert uploader.finish(60) is None
    assert mirror.whole_steps(flaky) == [1, 2]
    assert "connection refused; checkpoint-1 is not copied" in told[0]
    assert told[-1].endswith("is back: checkpoint-1 is there")


def test_a_storage_that_stays_away_is_reported(flaky: Storage, output_dir: Path, uploader_of: Callable):
    flaky.system.is_away = True
    uploader = uploader_of(flaky)
    for step in (1, 2):
        uploader.submit(_checkpoint(output_dir, step))
    problem = uploader.finish(0.2)
    assert problem == f"checkpoint-1, checkpoint-2: {flaky.url}: connection refused"


def test_the_warning_says_how_many_wait(
    flaky: Storage, output_dir: Path, uploader_of: Callable, told: list[str]
):
    flaky.system.is_away = True
    uploader = uploader_of(flaky)
    names = [_checkpoint(output_dir, step) for step in (1, 2, 3)]
    with uploader._changed:  # all are there when the first attempt begins
        for name in names:
            uploader.submit(name)
    uploader.finish(0.2)
    assert "3 waiting; the files are in" in told[0]


def test_one_deleted_here_is_no_longer_waited_for(
    flaky: Storage, output_dir: Path, uploader_of: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(uploads, "_FIRST_DELAY", 60.0)
    flaky.system.is_away = True
    uploader = uploader_of(flaky)
    for step in (1, 2):
        uploader.submit(_checkpoint(output_dir, step))
    assert flaky.system.failed.wait(60)
    while not uploader.let_go("checkpoint-1"):
        pass
    assert uploader.let_go("checkpoint-2")
    assert uploader.finish(60) is None


def test_one_on_its_way_may_not_be_deleted(
    storage: Storage, output_dir: Path, uploader_of: Callable, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = threading.Event(), threading.Event()
    send = mirror.send

    def slow(*args: Any) -> None:
        begun.set()
        assert go_on.wait(60)
        send(*args)

    monkeypatch.setattr(mirror, "send", slow)
    uploader = uploader_of(storage)
    uploader.submit(_checkpoint(output_dir, 1))
    assert begun.wait(60)
    assert not uploader.let_go("checkpoint-1")
    go_on.set()
    assert uploader.finish(60) is None
    assert uploader.let_go("checkpoint-1")
