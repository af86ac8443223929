"""Removes a folder that a model's program has filled."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: str) -> None:
    """Remove `folder` with all in it, however deep: a path in it may be longer than the system takes.

    Each folder is emptied right below the top, where those in it are moved; links are not followed.

    Raises:
        OSError: something can't be removed.
    """
    top = os.open(folder, _FOLDER)
    try:
        token = secrets.token_hex(8)
        names = (f"{token}-{number}" for number in count())
        waiting = _empty(top, top, names)
        while waiting:
            name = waiting.pop()
            place = os.open(name, _FOLDER, dir_fd=top)
            try:
                waiting += _empty(place, top, names)
            finally:
                os.close(place)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    Path(folder).rmdir()


def _empty(place: int, top: int, names: Iterator[str]) -> list[str]:
    """Remove the files of the open folder `place`, move its folders to `top`, and give their new names."""
    with os.scandir(place) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    moved = []
    for name, is_folder in found:
        if is_folder:
            os.chmod(name, 0o700, dir_fd=place)  # it may have been made without rights
            moved.append(next(names))
            os.rename(name, moved[-1], src_dir_fd=place, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=place)
    return moved
