"""Models side by side: the same questions, the differences and what they are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autoalign.atomic_files import write_text
from autoalign.config.evaluate import CompareConfig
from autoalign.errors import ConfigError
from autoalign.evaluation import comparison_report, contamination, pictures
from autoalign.evaluation.layout import latest_of
from autoalign.evaluation.paired import Both, by_subset, figures, pairs_of
from autoalign.evaluation.results import PERCENT, Question, Result, read_questions, read_results
from autoalign.evaluation.significance import holm


@dataclass(frozen=True)
class Evaluated:
    """What `eval` wrote about a model.

    Attributes:
        keys: of its config.
        contaminated: questions found in its training data, by benchmark, where that was searched.
    """

    name: str
    folder: Path
    results: tuple[Result, ...]
    questions: Mapping[str, Mapping[str, Question]]
    keys: Mapping[str, Any] = field(default_factory=dict)
    contaminated: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> frozenset[str]:
        """Benchmarks with an error; some of their questions may have scores all the same."""
        return frozenset(each.benchmark for each in self.results if each.error is not None)


@dataclass(frozen=True)
class Flip:
    """A question that one model got right and the other wrong (or better and worse)."""

    id: str
    prompt: str
    before: Question
    after: Question


@dataclass(frozen=True)
class Difference:
    """A benchmark's score of `model` less that of `base`, over the questions that both have.

    Attributes:
        measure: what the questions' scores are, as `accuracy`.
        before: the mean score of `base`, over the same questions (of a set of subsets the mean of their
            means); `after` that of `model`.
        low: of the interval of the difference, in the score's unit; `high` the other end.
        p_value: how likely so large a difference is between equals, by an exact test.
        adjusted_p: the same, for one of several differences in a report (Holm).
        significant: the interval leaves 0 out, and the test agrees.
        better: questions that `model` did better, `worse` those it did worse.
    """

    benchmark: str
    base: str
    model: str
    measure: str
    count: int
    before: float
    after: float
    low: float
    high: float
    p_value: float
    adjusted_p: float
    level: float
    better: tuple[Flip, ...] = field(default=())
    worse: tuple[Flip, ...] = field(default=())

    @property
    def value(self) -> float:
        """The difference, in the score's unit (percentage points for shares)."""
        return self.after - self.before

    @property
    def significant(self) -> bool:
        """Whether the difference is more than the draw of the questions explains.

        The bootstrap alone would call equals different a little more often than its level says, and of 20
        benchmarks one would be called so in most reports.
        """
        return (self.low > 0 or self.high < 0) and self.adjusted_p < 1 - self.level


@dataclass(frozen=True)
class Comparison:
    """All of it, and where the report is."""

    models: tuple[Evaluated, ...]
    differences: tuple[Difference, ...]
    level: float
    folder: Path

    def summary(self) -> str:
        """For the terminal."""
        return (
            comparison_report.plain(self)
            + f"\nreport: {self.folder / 'report.html'}, {self.folder / 'report.md'}"
        )


def run(config: CompareConfig) -> Comparison:
    """Compare every model with the first, and write report.md, report.html, differences.json and a picture.

    Raises:
        ConfigError: there is no evaluation of a model, or two have the same name and place.
    """
    outputs = Path(config.output_dir).expanduser()
    models = _named_apart([_load(given, outputs) for given in config.models])
    base, *others = models
    measured = [each for other in others for each in differences_of(base, other, config)]
    adjusted = holm([each.p_value for each in measured])
    differences = [replace(each, adjusted_p=p) for each, p in zip(measured, adjusted, strict=True)]
    names = "_vs_".join(each.name for each in models)
    folder = Path(config.report_dir).expanduser() if config.report_dir else outputs / "compare" / names
    comparison = Comparison(tuple(models), tuple(differences), config.level, folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = pictures.radar if config.picture == "radar" else pictures.bars
    draw({each.name: each.results for each in models}, folder / "comparison.png")
    write_text(folder / "report.md", comparison_report.markdown(comparison))
    write_text(folder / "report.html", comparison_report.html(comparison))
    told = [asdict(each) | {"value": each.value, "significant": each.significant} for each in differences]
    write_text(
        folder / "differences.json", json.dumps(told, ensure_ascii=False, indent=1, default=str) + "\n"
    )
    return comparison


def differences_of(base: Evaluated, model: Evaluated, config: CompareConfig) -> list[Difference]:
    """One for each benchmark that both have figures on, and whose questions both were asked."""
    found, failed = [], base.failed | model.failed
    first = {each.benchmark: each for each in reversed(base.results)}
    theirs = {each.benchmark for each in model.results}
    for name in dict.fromkeys(each.benchmark for each in base.results):
        if name in failed or name not in theirs:
            continue
        pairs = pairs_of(base.questions.get(name, {}), model.questions.get(name, {})).scored
        if pairs:
            found.append(_difference(first[name], base.name, model.name, pairs, config))
    return found


def _difference(
    result: Result, base: str, model: str, pairs: Sequence[Both], config: CompareConfig
) -> Difference:
    subsets = by_subset(pairs) if result.is_macro else [pairs]
    before, after, low, high, p_value = figures(subsets, config.level, config.seed)
    scale = PERCENT if result.unit == "%" else 1.0
    flips = [Flip(old.id, old.prompt, old, new) for old, new in pairs if old.score != new.score]
    better = tuple(flip for flip in flips if (flip.after.score or 0.0) > (flip.before.score or 0.0))
    worse = tuple(flip for flip in flips if (flip.after.score or 0.0) < (flip.before.score or 0.0))
    return Difference(
        result.benchmark, base, model, str(result.notes.get("questions", result.metric)), len(pairs),
        scale * before, scale * after, scale * low, scale * high,
        p_value, p_value, config.level, better, worse,
    )  # fmt: skip


def _load(given: str, outputs: Path) -> Evaluated:
    folder = Path(given).expanduser()
    if not (folder / "results.json").is_file():
        folder = outputs / given
    if not (folder / "results.json").is_file():
        folder = latest_of(outputs, given) or folder
    if not (folder / "results.json").is_file():
        known = sorted(path.parent.name for path in outputs.glob("*/results.json"))
        raise ConfigError(
            f"'models': no evaluation of '{given}' in {outputs}; there are: {', '.join(known) or 'none'}"
        )
    written = folder / "eval.json"
    keys = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else {}
    name = keys.get("model_name") or Path(str(keys.get("model_path", folder.name)).rstrip("/")).name
    questions = {
        file.stem: {question.id: question for question in read_questions(file)}
        for file in sorted((folder / "questions").glob("*.jsonl"))
    }
    results = tuple(read_results(folder / "results.json"))
    return Evaluated(name, folder, results, questions, keys, contamination.counts(folder))


def _named_apart(models: Sequence[Evaluated]) -> list[Evaluated]:
    """Two evaluations of one model are told apart by their folders."""
    names = [each.name for each in models]
    apart = [each if names.count(each.name) == 1 else replace(each, name=each.folder.name) for each in models]
    if len({each.name for each in apart}) < len(apart):
        raise ConfigError("'models': the same evaluation is named twice")
    return apart
