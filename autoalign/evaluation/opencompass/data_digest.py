"""What OpenCompass's data sets are read from, in a digest: other data is another question to old answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoalign import manifest
from autoalign.evaluation.opencompass.datasets import Subset

# What readers leave beside the data: Hugging Face's datasets locks its cache, and keeps results there.
_LEFT_BY_READERS = ("*.lock", "cache-*.arrow", "__pycache__", "*.pyc")


def digests(subsets: Sequence[Subset]) -> dict[str, str]:
    """Of each set's data, by the abbreviation that all its runs share.

    Every place is read once. Sets of which it can't be told where they are read from are left out.
    """
    places = dict.fromkeys(subset.path for subset in subsets if subset.path is not None)
    known = {place: digest(Path(place)) for place in places if Path(place).exists()}
    return {subset.base: known[subset.path] for subset in subsets if subset.path in known}


def changed(subsets: Sequence[Subset], before: Mapping[str, str], now: Mapping[str, str]) -> list[Subset]:
    """Sets whose data is other than before; those of which one of the two is not known are not."""
    both = [subset for subset in subsets if subset.base in before and subset.base in now]
    return [subset for subset in both if before[subset.base] != now[subset.base]]


def digest(path: Path) -> str:
    """Of a file's contents, or of the names, sizes and contents of all files in a folder.

    It does not depend on where the folder lies.
    """
    files = [(path, "")] if path.is_file() else [(file, _name(file, path)) for file in _files(path, set())]
    told = [(name, file.stat().st_size, _contents(file)) for file, name in files]
    return hashlib.blake2b(repr(sorted(told)).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Also those behind links to folders, each folder once."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or any(map(entry.match, _LEFT_BY_READERS)):
            continue
        if entry.is_dir():
            yield from _files(entry, seen)
        elif entry.is_file():
            yield entry


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _contents(file: Path) -> str:
    """A file that may not be read, which OpenCompass does not read either, is known by name and size."""
    try:
        return manifest.file_sha256(file)
    except PermissionError:
        return ""
