"""What OpenCompass left: figures, answers, and why there are none.

OpenCompass ends with 0 and a dash in its table where a task failed. So a data set is done when its result is
there and holds a number, and failed otherwise; the reason stands in its task's log.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from autoalign.evaluation.opencompass.datasets import Subset
from autoalign.evaluation.opencompass.scores import FLAGS, correctness, gives, is_share
from autoalign.evaluation.results import (
    PERCENT,
    Question,
    Result,
    interval_of,
    macro_average,
    with_value,
)
from autoalign.intervals import Interval, wilson

# The figure that is a data set's score, in the order of OpenCompass's own tables.
METRICS = (
    *("score", "auc_score", "accuracy", "humaneval_pass@1", "rouge1", "avg_toxicity_score", "bleurt_diff"),
    *("matthews_correlation", "truth", "f1", "exact_match"),
)
_REASON = re.compile(
    r"^\s*(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)|Killed|Terminated)\b.*$", re.MULTILINE
)
_ELAPSED = re.compile(r"time elapsed:\s*([\d.]+)s")
_LONGEST = 300  # characters of a reason
# What a comparison of questions measures, where the set's figure is something else.
_RIGHT = "share of right answers"


@dataclass(frozen=True)
class Collected:
    """A data set's figure, and its questions where OpenCompass tells of each."""

    result: Result
    questions: tuple[Question, ...] = ()


class _Set(NamedTuple):
    """A data set over its runs.

    Attributes:
        answers: to all questions, in all runs.
    """

    metric: str
    value: float
    evaluator: str
    answers: int
    questions: tuple[Question, ...]

    def interval(self) -> Interval | None:
        """Of a share of right answers, 0 to 1; None where the figure is something else."""
        scores = _scores(self.questions)
        if scores:
            return interval_of(scores) if gives(scores, self.value) else None
        if not is_share(self.metric, self.evaluator, self.value, self.answers):
            return None
        return wilson(self.value / PERCENT * len(self.questions), len(self.questions))


class Outcome:
    """The folder of one OpenCompass run (`opencompass_log/TIMESTAMP`), and the model's abbreviation in it.

    Args:
        exit_code: of its process, where it ran just now.
        gone: why the server that it asks is gone.
    """

    def __init__(self, folder: Path, model: str, exit_code: int = 0, gone: str | None = None) -> None:
        self._folder, self._model, self._exit_code, self._gone = folder, model, exit_code, gone

    def is_done(self, abbr: str) -> bool:
        """Whether this data set has a number."""
        return self._figure(abbr) is not None

    def missing(self, subsets: Sequence[Subset]) -> list[str]:
        """Data sets without one."""
        return [subset.abbr for subset in subsets if not self.is_done(subset.abbr)]

    def discard_failed(self, subsets: Sequence[Subset]) -> None:
        """Remove results without a number, which OpenCompass would take for done."""
        for abbr in self.missing(subsets):
            self._path("results", abbr).unlink(missing_ok=True)

    def discard(self, abbrs: Iterable[str]) -> None:
        """Remove answers and results, whole or begun: these sets are asked and scored again."""
        for abbr in abbrs:
            for path in self._left_by(abbr):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def reason(self, abbr: str) -> str:
        """Why this data set has no number."""
        told = self._json("results", abbr)
        if isinstance(told, Mapping) and told.get("error"):
            return _one_line(str(told["error"]))
        has_answers = self._path("predictions", abbr).is_file()
        if self._gone and not has_answers:
            return _one_line(self._gone)
        for stage in ("eval", "infer") if has_answers else ("infer", "eval"):
            for log in self._logs(stage, abbr):
                if found := last_error(log.read_text(encoding="utf-8", errors="replace")):
                    return found
        stage = "scoring its answers" if has_answers else "answering it"
        how = f"was ended by signal {-self._exit_code}" if self._exit_code < 0 else "ended"
        return f"OpenCompass {how} while {stage}, and gave no reason (logs in {self._folder / 'logs'})"

    def busy_seconds(self, since: float) -> float:
        """How long its tasks were at work, by their logs that were written after `since` (seconds, epoch).

        The rest of a run is OpenCompass's own start, once for asking and once for scoring.
        """
        logs = [log for log in (self._folder / "logs").rglob("*.out") if log.stat().st_mtime >= since]
        told = [_ELAPSED.findall(log.read_text(encoding="utf-8", errors="replace")) for log in logs]
        return sum(float(each[-1]) for each in told if each)

    def collect(self, subsets: Sequence[Subset]) -> Iterator[Collected]:
        """A figure for each dataset config, with those of its subsets in one."""
        for name, members in groupby(subsets, key=lambda subset: subset.name):
            yield self._config(name, list(members))

    def _config(self, name: str, subsets: Sequence[Subset]) -> Collected:
        lost = self.missing(subsets)
        known = [subset for subset in subsets if subset.abbr not in lost]
        sets = [self._merged(list(runs)) for _, runs in groupby(known, key=lambda subset: subset.base)]
        flat = tuple(question for each in sets for question in each.questions)
        if lost:
            which = "" if len(subsets) == 1 else f"{len(lost)} of {len(subsets)} subsets, {lost[0]}: "
            return Collected(Result(name, "", error=which + self.reason(lost[0])), flat)
        if len(sets) == 1:
            return Collected(_single(name, sets[0]), flat)
        value = fmean(each.value for each in sets)
        parts = [_scores(each.questions) for each in sets]
        if all(gives(part, each.value) for part, each in zip(parts, sets, strict=True)):
            return Collected(with_value(macro_average(name, sets[0].metric, parts), value), flat)
        unit = "%" if all(each.interval() is not None for each in sets) else ""
        notes = {"subsets": len(sets), **_of_questions(flat)}
        return Collected(Result(name, sets[0].metric, len(flat), value, unit=unit, notes=notes), flat)

    def _merged(self, runs: Sequence[Subset]) -> _Set:
        """One set's runs: the mean of their figures, and each question with all its answers."""
        figures = [self._figure(subset.abbr) or ("", math.nan) for subset in runs]
        told = [self._questions(subset.abbr, subset.base) for subset in runs]
        questions = tuple(_over_runs(each) for each in zip(*told, strict=False))
        answers = len(runs) * len(questions)
        value = fmean(value for _, value in figures)
        return _Set(figures[0][0], value, runs[0].evaluator, answers, questions)

    def _figure(self, abbr: str) -> tuple[str, float] | None:
        """Metric and value."""
        told = self._json("results", abbr)
        if not isinstance(told, Mapping):
            return None
        numbers = {
            key: float(value)
            for key, value in told.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        found = next((name for name in (*METRICS, *numbers) if name in numbers), None)
        return None if found is None else (found, numbers[found])

    def _questions(self, abbr: str, base: str) -> list[Question]:
        """In the data set's order."""
        answers = self._json("predictions", abbr)
        told = self._json("results", abbr)
        details = _details(told.get("details") if isinstance(told, Mapping) else None)
        if not isinstance(answers, Mapping):
            return []
        rows = [answers[key] for key in sorted(answers, key=int)]
        matching = len(rows) == len(details)
        metric, value = self._figure(abbr) or ("", math.nan)
        scores = correctness(details, metric, value) if matching else [None] * len(rows)
        return [
            Question(
                f"{base}/{place}",
                scores[place],
                _prompt(row),
                (str(row.get("prediction", "")),),
                _text(row.get("gold")),
                _kept(details[place]) if matching else {},
            )
            for place, row in enumerate(rows)
        ]

    def _logs(self, stage: str, abbr: str) -> list[Path]:
        """The data set's own log; else those of tasks of several sets, which are named after the first."""
        folder = self._folder / "logs" / stage / self._model
        own = folder / f"{abbr}.out"
        return [own] if own.is_file() else sorted(folder.glob("*.out"), key=lambda log: -log.stat().st_mtime)

    def _left_by(self, abbr: str) -> Iterator[Path]:
        """All of a data set but its logs; judges leave verdicts beside its results."""
        results = self._folder / "results" / self._model
        for kind in ("predictions", "results"):
            yield self._path(kind, abbr)
        for suffix in (".json", ".jsonl"):
            yield self._path("predictions", f"tmp_{abbr}").with_suffix(suffix)
        for judged in ("_replica", "_llm_judge_replica", "_judge_details_replica"):
            yield from results.glob(f"{escape(abbr + judged)}[0-9]*")
        yield results / abbr

    def _path(self, kind: str, abbr: str) -> Path:
        return self._folder / kind / self._model / f"{abbr}.json"

    def _json(self, kind: str, abbr: str) -> Any:
        try:
            return json.loads(self._path(kind, abbr).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def _single(name: str, found: _Set) -> Result:
    count, interval = len(found.questions), found.interval()
    if interval is None:
        notes = _of_questions(found.questions)
        return Result(name, found.metric, count, found.value, unit="", notes=notes)
    # The figure itself is OpenCompass's, to the last digit.
    low, high = PERCENT * interval.low, PERCENT * interval.high
    return with_value(Result(name, found.metric, count, low=low, high=high), found.value)


def _of_questions(questions: Sequence[Question]) -> dict[str, str]:
    return {"questions": _RIGHT} if _scores(questions) else {}


def _over_runs(runs: Sequence[Question]) -> Question:
    """One question of all runs, scored by their mean."""
    if len(runs) == 1:
        return runs[0]
    scores = [question.score for question in runs if question.score is not None]
    return replace(
        runs[0],
        score=fmean(scores) if len(scores) == len(runs) else None,
        answers=tuple(answer for question in runs for answer in question.answers),
        details={"runs": [dict(question.details) for question in runs]},
    )


def last_error(log: str) -> str | None:
    """The last exception in a log, on one line; None where there is none."""
    found = list(_REASON.finditer(log))
    if not found:
        return None
    told = found[-1][0].strip()
    if told.endswith(":"):  # nltk's LookupError tells what it looked for below a line of stars
        behind = log[found[-1].end() :].splitlines()
        told += " " + next((line for line in behind if re.search(r"\w", line)), "")
    return _one_line(told)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _details(given: Any) -> list[Mapping[str, Any]]:
    """OpenCompass writes a list, or a dict of places with a key `type` among them."""
    rows = given if isinstance(given, list) else []
    if isinstance(given, Mapping):
        rows = [given[key] for key in sorted((key for key in given if str(key).isdigit()), key=int)]
    return [row for row in rows if isinstance(row, Mapping)]


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """A detail's small fields: prompts and answers stand beside them."""
    values = {
        key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in row.items()
    }
    known = {*FLAGS, "example_abbr", "prompt", "completion", "origin_prediction"}
    return {key: value for key, value in values.items() if key not in known}


def _prompt(row: Mapping[str, Any]) -> str:
    given = row.get("origin_prompt", "")
    if isinstance(given, list):
        turns = [each for each in given if isinstance(each, Mapping)]
        return "\n\n".join(str(each.get("prompt", each.get("content", ""))) for each in turns)
    return str(given)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _scores(questions: Sequence[Question]) -> list[float]:
    """All of them, or none."""
    scores = [question.score for question in questions]
    return [score for score in scores if score is not None] if None not in scores else []
