"""Does a regular expression match the answer? 1 or 0."""

from __future__ import annotations

from dataclasses import dataclass

from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError
from autoalign.scoring.scorer import CannotScore, Checked, Job, Score


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        pattern: searched for anywhere in the answer; `^` and `$` are the ends of lines with `(?m)`.
        timeout: seconds for one answer, since a pattern may take for ever.
    """

    pattern: str | None = None
    timeout: float = 10.0


def create(options: Options, job: Job) -> Checked:
    """The first match goes into the details.

    Raises:
        ConfigError: no pattern, or a broken one.
    """
    import regex

    if options.pattern is None:
        raise ConfigError("the regex scorer needs --pattern, a regular expression")
    try:
        pattern = regex.compile(options.pattern)
    except regex.error as error:
        raise ConfigError(f"'pattern': {error} in {options.pattern!r}") from None

    def check(answer: Answer) -> Score:
        try:
            match = pattern.search(answer.text, timeout=options.timeout)
        except TimeoutError:
            raise CannotScore(f"the pattern took more than {options.timeout:g} s") from None
        return Score(float(match is not None), {"match": match[0]} if match else {})

    return Checked(check)
