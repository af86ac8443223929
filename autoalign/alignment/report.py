"""What an alignment job tells: a table by round, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.alignment import guards
from autoalign.alignment.ledger import Ledger, Round
from autoalign.alignment.stages import StageStore
from autoalign.atomic_files import replacing

REPORT, PICTURE = "report.json", "align.png"
_BLUE, _ORANGE = "#0072b2", "#d55e00"


@dataclass(frozen=True)
class RoundFigures:
    """A round's figures, by stage, as far as it went."""

    entry: Round
    data: Mapping[str, Any]
    train: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    seconds: float

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.entry.promoted is None:
            return self.entry.trains if self.entry.reason else "unfinished"
        return "promoted" if self.entry.promoted else "kept aside"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        found = {"round": self.entry.number, "verdict": self.verdict, "reason": self.entry.reason}
        parts = {"data": self.data, "train": self.train, "evaluation": self.evaluation}
        return {**found, "warnings": self.entry.warnings, "seconds": self.seconds, **parts}


@dataclass(frozen=True)
class AlignReport:
    """Figures of all rounds, and the model that came out."""

    ledger: Ledger
    rounds: list[RoundFigures]

    @classmethod
    def of(cls, ledger: Ledger, store: StageStore) -> AlignReport:
        """From the stages on disk."""
        return cls(ledger, [_figures(entry, store) for entry in ledger.rounds])

    def to_dict(self) -> dict[str, Any]:
        """What `report.json` holds."""
        return {
            "algorithm": self.ledger.algorithm,
            "policy": self.ledger.policy,
            "rounds": [each.to_dict() for each in self.rounds],
        }

    def summary(self) -> str:
        """The table, what was decided and why, and where the model is."""
        rows = [_HEAD, *(_row(each) for each in self.rounds)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        table = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        notes = [
            f"round {each.entry.number}: {each.entry.reason}" for each in self.rounds if each.entry.reason
        ]
        notes += [
            f"guards, round {each.entry.number}: {guards.shown(each.evaluation)}"
            for each in self.rounds
            if each.evaluation
        ]
        warned = [
            f"warning, round {each.entry.number}: {line}"
            for each in self.rounds
            for line in each.entry.warnings
        ]
        promoted = self.ledger.policy != self.ledger.first_model
        model = f"model: {self.ledger.policy}" if promoted else "no round was promoted; the first model stays"
        return "\n".join([*table, *notes, *warned, model])


_HEAD = ("round", "rows", "dropped", "loss", "score", "compared", "gain", "95% interval", "words", "drift",
         "distinct-2", "benchmark", "seconds", "verdict")  # fmt: skip


def _row(each: RoundFigures) -> tuple[str, ...]:
    found, gain = each.evaluation, each.evaluation.get("gain", {})
    score = found.get("accuracy") or found.get("win_rate") or {}
    dropped = sum(each.data.get("dropped", {}).values()) if each.data else None
    return (
        str(each.entry.number),
        _shown(each.data.get("rows"), "d"),
        _shown(dropped, "d"),
        _shown(each.train.get("loss"), ".3f"),
        _shown(score.get("value"), ".3f"),
        f"{found['compared']}/{found['held_out']}" if "compared" in found else "-",
        _shown(gain.get("value"), "+.3f"),
        f"{gain['low']:+.3f} to {gain['high']:+.3f}" if gain else "-",
        _shown(found.get("words"), ".1f"),
        _shown(found.get("length_drift"), ".2f"),
        _shown(found.get("diversity"), ".2f"),
        _shown(found.get("benchmark", {}).get("value"), ".3f"),
        _shown(each.seconds, ".0f"),
        each.verdict,
    )


def write_files(report: AlignReport) -> AlignReport:
    """`report.json` and `align.png` beside the stages; the report itself."""
    folder = report.ledger.folder
    manifest.write_json(folder / REPORT, report.to_dict())
    if any("gain" in each.evaluation for each in report.rounds):
        _draw(report, folder / PICTURE)
    return report


def _figures(entry: Round, store: StageStore) -> RoundFigures:
    done = {what: found for what, name in entry.stages.items() if (found := store.find(name)) is not None}
    data, train, evaluation = (
        done[what].figures if what in done else {} for what in ("data", "train", "evaluation")
    )
    seconds = sum(float(each.record["seconds"]) for each in {d.name: d for d in done.values()}.values())
    return RoundFigures(entry, data, train, evaluation, round(seconds, 1))


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _draw(report: AlignReport, path: Path) -> None:
    """Gain with its interval, and the guards' ratios, by round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    judged = [each for each in report.rounds if "gain" in each.evaluation]
    numbers = [each.entry.number for each in judged]
    gains = [each.evaluation["gain"] for each in judged]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    left.axhline(0, color="black", linewidth=0.8)
    for number, gain, each in zip(numbers, gains, judged, strict=True):
        bars = [[gain["value"] - gain["low"]], [gain["high"] - gain["value"]]]
        colour = _BLUE if each.entry.promoted else _ORANGE
        left.errorbar([number], [gain["value"]], yerr=bars, fmt="o", capsize=5, color=colour)
    left.set(xlabel="round", ylabel="gain over the policy before", title="blue: promoted, orange: kept aside")
    for name, colour in (("length_drift", _BLUE), ("diversity", _ORANGE)):
        right.plot(numbers, [each.evaluation.get(name) for each in judged], "o-", color=colour, label=name)
    right.axhline(1, color="black", linewidth=0.8, linestyle=":")
    right.set(xlabel="round", ylabel="against the first model", title="guards")
    right.legend()
    for axes in (left, right):
        axes.set_xticks(numbers)
    figure.suptitle(report.ledger.algorithm)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
