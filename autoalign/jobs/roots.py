"""Which paths a user's job may name: below a root, after every link is followed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_PLAIN = re.compile(r"[\w][\w.+-]{0,199}", re.ASCII)
_LONGEST = 4096


def is_plain_name(text: str) -> bool:
    """One path segment at most: letters, digits, `. _ + -`, not beginning with a dot."""
    return _PLAIN.fullmatch(text) is not None


def below(roots: Sequence[Path], text: str) -> Path | None:
    """The file or folder that `text` names, absolute or relative to one of `roots`.

    Links are followed before the check. None where it lies outside, or does not exist: the two
    look the same from outside.
    """
    if not text or "\0" in text or len(text) > _LONGEST:
        return None
    for root in roots:
        try:
            real_root = root.resolve(strict=True)
            found = (real_root / text).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            continue
        if found.is_relative_to(real_root):
            return found
    return None


def inside(folder: Path, text: str) -> Path | None:
    """Where `text`, a relative path, lies in `folder`; None where it would leave it. It need not exist."""
    if not text or "\0" in text or len(text) > _LONGEST or Path(text).is_absolute():
        return None
    real = folder.resolve()
    try:
        found = (real / text).resolve()
    except (OSError, RuntimeError):
        return None
    return found if found.is_relative_to(real) else None
