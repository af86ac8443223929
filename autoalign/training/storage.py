"""A folder on any file system that pyarrow or fsspec knows: S3, GCS, NFS, HDFS, memory, ...

Files go one by one, in blocks, hashed on the way. Whoever writes a folder puts the file that makes
it count (its manifest) last, because object stores can't rename.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.errors import ConfigError, MissingDependency

_BLOCK = 8 << 20
_ARROW_SCHEMES = ("s3", "gs", "gcs")
"""pyarrow brings clients for these, so that no further library is needed."""


class StorageError(OSError):
    """The storage can't be reached, or refuses; `str()` says why in one line."""


@dataclass(frozen=True)
class Storage:
    """The folder `root` on `system`; names are relative to it, with `/` between parts."""

    url: str
    system: Any
    root: str

    def names(self, folder: str = "") -> list[str]:
        """Names of what lies directly in `folder`; empty where there is none."""
        with self._naming():
            try:
                found = self.system.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
            # Some stores list the folder itself, as an empty object.
            own = self._path(folder).strip("/")
            return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found if path.strip("/") != own)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file's content; empty where it is absent or torn."""
        with self._naming():
            try:
                content = json.loads(self.system.cat_file(self._path(name)))
            except (FileNotFoundError, ValueError):
                return {}
        return content if isinstance(content, dict) else {}

    def put(self, source: Path, name: str, moved: Callable[[], None] = lambda: None) -> str:
        """Copy a file there; the SHA-256 of what was sent.

        Args:
            moved: called after each block.

        Raises:
            FileNotFoundError: there is no such local file.
            StorageError: it didn't get there whole.
        """
        digest, path = hashlib.sha256(), self._path(name)
        with source.open("rb") as local, self._naming():
            self.system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            with self.system.open(path, "wb") as remote:
                while block := local.read(_BLOCK):
                    remote.write(block)
                    digest.update(block)
                    moved()
            self.system.invalidate_cache()
            sent, there = local.tell(), self.system.info(path)["size"]
        if sent != there:
            raise StorageError(f"{self.url}: {name} has {there} bytes there, {sent} were sent")
        return digest.hexdigest()

    def get(self, name: str, target: Path) -> str:
        """Copy a file here; the SHA-256 of what came.

        Raises:
            OSError: the local file can't be written.
            StorageError: it can't be read there.
        """
        digest = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as local:
            for block in self._blocks(name):
                local.write(block)
                digest.update(block)
        return digest.hexdigest()

    def _blocks(self, name: str) -> Iterator[bytes]:
        with self._naming():
            remote = self.system.open(self._path(name), "rb")
        with remote:
            while True:
                with self._naming():
                    block = remote.read(_BLOCK)
                if not block:
                    return
                yield block

    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all in it; one that is absent is no error."""
        with self._naming():
            try:
                self.system.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a boundary: each client library raises errors of its own kind
            reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
            raise StorageError(f"{self.url}: {reason}") from error


def connect(url: str) -> Storage:
    """The storage at a URL or a path.

    Raises:
        ConfigError: no file system answers to this URL.
        MissingDependency: its client library is not installed.
    """
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0] if "://" in url else ""
    try:
        system, root = _arrow_system(url) if scheme in _ARROW_SCHEMES else url_to_fs(url)
    except ImportError as error:
        raise MissingDependency(f"storage_path {url}: {error}") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"storage_path {url}: {error}") from None
    return Storage(url, system, root.rstrip("/"))


def _arrow_system(url: str) -> tuple[Any, str]:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    system, path = FileSystem.from_uri(url.replace("gcs://", "gs://", 1))
    return ArrowFSWrapper(system), path
