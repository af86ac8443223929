"""Is the answer in the right language? 1 or 0, by py3langid (97 languages; Lui & Baldwin, ACL 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError, MissingDependency, nearest
from autoalign.scoring.scorer import CannotScore, Checked, Job, Score


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        languages: ISO 639-1 codes that are right; None: the language of the prompt's last question.
    """

    languages: Sequence[str] | None = None


def create(options: Options, job: Job) -> Checked:
    """The language found goes into the details; an empty text has none, and no score.

    Raises:
        ConfigError: a code that is not known.
        MissingDependency: py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingDependency("the language scorer needs: pip install py3langid") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    known = [str(label) for label in identifier.labels]
    for code in options.languages or ():
        if code not in known:
            raise ConfigError(f"'languages': no code '{code}'{nearest(code, known)}; as en, zh, fr")

    def detect(text: str) -> str:
        if not text.strip():
            raise CannotScore("no text to tell the language of")
        return str(identifier.classify(text)[0])

    def check(answer: Answer) -> Score:
        right = options.languages or [detect(_question(answer))]
        found = detect(answer.text)
        return Score(float(found in right), {"found": found, "expected": list(right)})

    return Checked(check)


def _question(answer: Answer) -> str:
    asked = [message.content for message in answer.prompt if message.role == "user"]
    return asked[-1] if asked else ""
