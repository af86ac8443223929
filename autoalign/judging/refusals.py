"""Refusals by their wording: one regular expression a line in `autoalign/prompts/refusal/LANGUAGE.txt`.

String matching as in arXiv:2307.15043; it sees the wording alone, so polite detours pass.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from autoalign.errors import ConfigError

RULES = Path(__file__).resolve().parents[1] / "prompts" / "refusal"
LOOKED_AT = 500  # characters: a refusal comes first, and later words may quote one


def refuses(text: str, looked_at: int = LOOKED_AT) -> bool:
    """Whether the text's first characters refuse, by the rules of all languages there are."""
    return matching_rule(text, all_rules(), looked_at) is not None


def matching_rule(
    text: str, rules: tuple[re.Pattern[str], ...], looked_at: int = LOOKED_AT
) -> re.Pattern[str] | None:
    """The first rule that finds a refusal."""
    opening = text[:looked_at].strip().replace("’", "'")
    return next((rule for rule in rules if rule.search(opening)), None)


@cache
def all_rules() -> tuple[re.Pattern[str], ...]:
    """Those of all languages there are."""
    return tuple(rule for path in sorted(RULES.glob("*.txt")) for rule in read_rules(path.stem))


def read_rules(name: str) -> list[re.Pattern[str]]:
    """The rules of a language, or of a file.

    Raises:
        ConfigError: no such file, or a rule is no regular expression.
    """
    own = RULES / f"{name}.txt"
    path = own if own.is_file() else Path(name)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        known = ", ".join(sorted(each.stem for each in RULES.glob("*.txt")))
        raise ConfigError(
            f"'refusal_rules': {name}: {error.strerror or error}; give a file, or one of {known}"
        ) from None
    return [_rule(line, path, number) for number, line in enumerate(lines, 1) if line and line[0] != "#"]


def _rule(line: str, path: Path, number: int) -> re.Pattern[str]:
    try:
        return re.compile(line, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(f"{path}:{number}: no regular expression: {error}") from None
