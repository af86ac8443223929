"""How long is the answer? The length itself, or 1 or 0 where bounds are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError
from autoalign.scoring.scorer import Checked, Job, Score

UNITS = ("tokens", "characters", "words")


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        unit: `tokens` (with `tokenizer`), `characters` or `words` (between spaces).
        tokenizer: model folder or hub name.
        shortest: the least that is right; None sets no bound.
        longest: the most that is right; None sets no bound.
    """

    unit: str = "characters"
    tokenizer: str | None = None
    shortest: int | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(f"'unit' is one of {', '.join(UNITS)}, not '{self.unit}'")
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ConfigError("'unit' tokens goes with --tokenizer, the model's folder")


def create(options: Options, job: Job) -> Checked:
    """The length is in the details where the score is 1 or 0."""
    count = counter(options.unit, options.tokenizer)

    def check(answer: Answer) -> Score:
        size = count(answer.text)
        if options.shortest is None and options.longest is None:
            return Score(float(size))
        fits = (options.shortest or 0) <= size and (options.longest is None or size <= options.longest)
        return Score(float(fits), {options.unit: size})

    return Checked(check)


def counter(unit: str, tokenizer: str | None) -> Callable[[str], int]:
    """What counts the length of a text.

    Raises:
        ModelError: no tokenizer is there.
    """
    if unit == "characters":
        return len
    if unit == "words":
        return lambda text: len(text.split())
    from autoalign import model_folder

    loaded = model_folder.load_tokenizer(model_folder.find_tokenizer(str(tokenizer)))
    return lambda text: len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])
