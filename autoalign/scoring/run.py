"""A scoring job from its config to its file."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.config.score import ScoreConfig
from autoalign.curation import answers
from autoalign.curation.answers import AnswerRow
from autoalign.errors import ConfigError, DataError, JobFailed
from autoalign.formats import RawRow
from autoalign.sampling.output import refuse_existing, write_answers, write_errors
from autoalign.scoring import scorer
from autoalign.scoring.progress import ScoreProgress
from autoalign.scoring.report import ScoreReport, Tally
from autoalign.scoring.scorer import Outcome, Score, Scorer, Unscorable

WINDOW = 1024  # rows that are in memory at once
COMBINED = "combined"


def run(config: ScoreConfig) -> ScoreReport:
    """Score every row of `config.data_path`, and write them with their scores.

    Raises:
        InputError: something the user gave is wrong, or no row could be scored; nothing was written.
        JobFailed: a model failed, or more than `max_error_rate` of the rows could not be scored.
    """
    began = time.monotonic()
    output = Path(config.output_file).expanduser()
    refuse_existing(output, config.overwrite)
    scorers = scorer.build(scorer.Job(config, output))
    work = _Work(config, scorers)
    try:
        with contextlib.ExitStack() as stack:
            for each in scorers.values():
                stack.callback(each.close)
            work.write(output)
    except OSError as error:
        raise ConfigError(f"output_file {output} can't be written: {error.strerror}") from None
    report = ScoreReport(work.tally, work.failed, time.monotonic() - began, output, work.errors)
    if report.error_rate > config.max_error_rate:
        raise JobFailed(
            f"{report.failed} of {report.rows + report.failed} rows can't be scored, more than "
            f"--max_error_rate {config.max_error_rate:g}; the reasons are in {report.errors}"
        )
    return report


class _Work:
    """Rows through the scorers, a window at a time; what fails is put aside with its reason."""

    def __init__(self, config: ScoreConfig, scorers: Mapping[str, Scorer]) -> None:
        self._config, self._scorers = config, scorers
        self._put_aside: Any = None
        self._first: DataError | None = None
        self._output_name = Path(config.output_file).name
        self.tally = Tally()
        self.failed = 0
        self.errors: Path | None = None

    def write(self, output: Path) -> None:
        """Write the output, and `errors.jsonl` beside it."""
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as self._put_aside, ScoreProgress(self._config.data_path) as progress:
            write_answers(output, self._lines(progress), "jsonl", one_each=True)
            self._put_aside.seek(0)
            self.errors = write_errors(output.parent, output.name, self._put_aside)

    def _lines(self, progress: ScoreProgress) -> Iterator[bytes]:
        rows = answers.read(self._config.data_path, self._config.format, self._bad_row)
        for window in answers.windows(rows, WINDOW):
            for row, outcomes in zip(window, self._outcomes(window), strict=True):
                if (line := self._line(row, outcomes)) is not None:
                    yield line
            progress.advance(len(window))
        if not self.tally.rows:
            raise self._nothing()

    def _outcomes(self, window: Sequence[AnswerRow]) -> Iterator[dict[str, list[Outcome]]]:
        """For each row, what each scorer says of its answers."""
        asked = [answer for row in window for answer in row.answers]
        found = {name: iter(each.score(asked)) for name, each in self._scorers.items()}
        for row in window:
            yield {name: [next(outcomes) for _ in row.answers] for name, outcomes in found.items()}

    def _line(self, row: AnswerRow, outcomes: Mapping[str, Sequence[Outcome]]) -> bytes | None:
        reasons = [
            f"{name}: {outcome.reason}"
            for name, given in outcomes.items()
            for outcome in given
            if isinstance(outcome, Unscorable)
        ]
        before = row.fields.get("scores", {}), row.fields.get("score_details", {})
        if not all(isinstance(value, Mapping) for value in before):
            reasons.append("its 'scores' or 'score_details' is no object; rename the key")
        if reasons:
            self._fail(DataError("; ".join(reasons), *row.place), row.fields)
            return None
        scores = {
            name: [each for each in given if isinstance(each, Score)] for name, given in outcomes.items()
        }
        values = self._values(scores)
        self.tally.add(values)
        self.tally.truncated += sum(bool(each.details.get("truncated")) for each in flat(scores))
        return _dumps(with_scores(row, values, _details(scores)))

    def _values(self, scores: Mapping[str, Sequence[Score]]) -> dict[str, list[float]]:
        values = {name: [each.value for each in given] for name, given in scores.items()}
        if self._config.weights is not None:
            sides = zip(*values.values(), strict=True)
            values[COMBINED] = [
                sum(weight * value for weight, value in zip(self._config.weights, side, strict=True))
                for side in sides
            ]
        return values

    def _bad_row(self, problem: DataError, raw: RawRow) -> None:
        self._fail(problem, raw.value)

    def _fail(self, problem: DataError, row: Any) -> None:
        self.failed += 1
        self._first = self._first or problem
        entry = {
            "output": self._output_name,
            "file": problem.file,
            "line": problem.line,
            "field": problem.field,
            "error": problem.message,
            "row": row,
        }
        self._put_aside.write(_dumps(entry))

    def _nothing(self) -> DataError:
        """The error of a job whose rows all failed."""
        if self._first is None:
            return DataError("no rows in it", ", ".join(self._config.data_path))
        if self.failed == 1:
            return self._first
        return DataError(f"none of the {self.failed} rows can be scored; the first: {self._first}")


def with_scores(
    row: AnswerRow, values: Mapping[str, Sequence[float]], details: Mapping[str, Any]
) -> dict[str, Any]:
    """The row's fields with `scores`, `score_details` and the reward model's `reward`.

    Those of an earlier run with other scorers stay.
    """
    sides = [answer.side for answer in row.answers]
    fields = dict(row.fields)
    for name, given in values.items():
        if name == "reward_model":
            names = ["reward"] if len(given) == 1 else [f"reward_{side}" for side in sides]
            fields.update(zip(names, given, strict=True))
    by_side = {
        name: given[0] if len(given) == 1 else dict(zip(sides, given, strict=True))
        for name, given in values.items()
    }
    fields["scores"] = {**fields.get("scores", {}), **by_side}
    if details:
        fields["score_details"] = {**fields.get("score_details", {}), **details}
    return fields


def flat(scores: Mapping[str, Sequence[Score]]) -> Iterator[Score]:
    """The scores of all scorers, one after the other."""
    return (each for given in scores.values() for each in given)


def _details(scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """What the scorers tell of their scores, by name; of a pair by its two sides."""
    sides = ("chosen", "rejected")
    return {
        name: dict(given[0].details)
        if len(given) == 1
        else {side: dict(each.details) for side, each in zip(sides, given, strict=True)}
        for name, given in scores.items()
        if any(each.details for each in given)
    }


def _dumps(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
