"""Opening data files: local paths and fsspec URLs, gzip, weights, digests."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from autoalign.errors import DataError, MissingDependency

CHUNK = 1 << 20

# Told about every file that is opened, so that a command can show how far reading has come.
on_open: ContextVar[Callable[[str, BinaryIO], None] | None] = ContextVar("on_open", default=None)
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")


class Source(NamedTuple):
    """One data file, how often each of its rows counts, and its place among the files."""

    path: str
    weight: float = 1.0
    place: int = 0


def parse_sources(paths: str | Path | Sequence[str | Path]) -> tuple[Source, ...]:
    """`PATH` or `PATH@WEIGHT`, one or several.

    Raises:
        DataError: no path at all, or a weight that is not a positive number.
    """
    entries = [paths] if isinstance(paths, str | Path) else list(paths)
    if not entries:
        raise DataError("no data file is given")
    return tuple(_parse_source(str(entry))._replace(place=place) for place, entry in enumerate(entries))


def _parse_source(entry: str) -> Source:
    path, at, number = entry.rpartition("@")
    if not at or Path(entry).exists():
        return Source(entry)
    try:
        weight = float(number)
    except ValueError:
        return Source(entry)
    if not math.isfinite(weight) or weight <= 0:
        raise DataError(f"the weight after '@' must be a number above 0, found {number}", file=path)
    return Source(path, weight)


def suffix(path: str) -> str:
    """`.jsonl` for `a/b.JSONL.gz`.

    Raises:
        DataError: not the suffix of a data file.
    """
    if "://" not in path and Path(path).expanduser().is_dir():
        raise DataError("this is a folder; name the data files in it", file=path)
    name = path.split("?")[0].lower().removesuffix(".gz")
    found = next((known for known in SUFFIXES if name.endswith(known)), None)
    if found is None:
        raise DataError(f"a data file ends in {', '.join(SUFFIXES)} (or these with .gz)", file=path)
    return found


def stem(path: str) -> str:
    """`train` for `data/train.jsonl.gz`: what ids of rows without one begin with."""
    return path.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0] or "row"


@contextlib.contextmanager
def open_raw(path: str) -> Iterator[BinaryIO]:
    """The bytes of a local file or an fsspec URL, as they are stored.

    Raises:
        DataError: the file is missing, or reading it fails.
        MissingDependency: the URL's protocol needs a package that is not installed.
    """
    try:
        with _open_url(path) if "://" in path else Path(path).expanduser().open("rb") as handle:
            if notify := on_open.get():
                notify(path, handle)
            yield handle
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot be read: {reason}", file=path) from None


def _open_url(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
    import fsspec

    try:
        return cast("contextlib.AbstractContextManager[BinaryIO]", fsspec.open(path, "rb"))
    except ImportError as error:
        raise MissingDependency(f"{path}: {error}") from None
    except ValueError as error:
        raise DataError(f"cannot be opened: {error}", file=path) from None


@contextlib.contextmanager
def open_content(path: str) -> Iterator[BinaryIO]:
    """Like `open_raw`, unpacked where the name ends in `.gz`."""
    with open_raw(path) as handle:
        if path.lower().endswith(".gz"):
            with gzip.open(handle, "rb") as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield handle


def digest(sources: Sequence[Source]) -> str:
    """sha256 (hex) over the files' bytes and weights, in order."""
    total = hashlib.sha256()
    for source in sources:
        content = hashlib.sha256()
        with open_raw(source.path) as handle:
            while chunk := handle.read(CHUNK):
                content.update(chunk)
        total.update(f"{content.hexdigest()} {source.weight!r}\n".encode())
    return total.hexdigest()
