"""What scoring needs beside OpenCompass and a set's data, looked for before anything is asked."""

from __future__ import annotations

from importlib.util import find_spec

# IFEval's checkers guess languages, and count sentences and words as nltk cuts them.
_OF_INSTRUCTIONS = ("IFEvaluator", "MultiIFEvaluator")


def lacking(evaluator: str) -> list[str]:
    """What this evaluator needs and is not there, each with its remedy."""
    if evaluator not in _OF_INSTRUCTIONS:
        return []
    found = []
    if find_spec("langdetect") is None:
        found.append("the package langdetect: pip install langdetect into OpenCompass's environment")
    return [*found, *_sentences()]


def _sentences() -> list[str]:
    import nltk

    try:
        nltk.PunktTokenizer("english")
    except LookupError:
        places = ", ".join(nltk.data.path)
        return [f"nltk's punkt_tab: unpack punkt_tab.zip of nltk_data into tokenizers/ in one of {places}"]
    return []
