"""What a sampling job tells at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoalign.diversity import Diversity
from autoalign.sampling.figures import Figures


@dataclass(frozen=True, slots=True)
class SampleReport:
    """Figures of one job; `startup_seconds` is what passed before the engine could answer.

    `generation_seconds` are those from then to the last answer, `first_answer_seconds` to the first;
    `writing_seconds` is their part in which answers were given keys and written.
    `reused`: those of `answers` that an earlier run had made; tokens are of the others.
    `diversity`: means over prompts with several answers. `figures`: of the answers that this run made.
    """

    prompts: int
    answers: int
    failed: int
    quarantined: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    startup_seconds: float
    output: Path
    errors: Path | None
    diversity: Diversity | None = None
    reused: int = 0
    generation_seconds: float = 0.0
    first_answer_seconds: float = 0.0
    writing_seconds: float = 0.0
    figures: Figures = field(default_factory=Figures)
    picture: Path | None = None

    @property
    def tokens_per_second(self) -> float:
        """Output tokens for each second in which the engine was at work."""
        return self.output_tokens / max(self.generation_seconds, 1e-3)

    @property
    def error_rate(self) -> float:
        """Share of the answers that failed."""
        return self.failed / max(self.answers + self.failed, 1)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each line of the summary."""
        return [
            ("prompts", f"{self.prompts:,}"),
            ("answers", f"{self.answers:,}{self._kept}"),
            ("failed", f"{self.failed:,}"),
            *([("bad rows", f"{self.quarantined:,} left out")] if self.quarantined else []),
            ("prompt tokens", f"{self.prompt_tokens:,}"),
            ("output tokens", f"{self.output_tokens:,}"),
            ("seconds", f"{self.seconds:.1f} ({self.startup_seconds:.1f} to start)"),
            ("rates", self._rates),
            *([("finish reasons", self._reasons)] if self.figures.reasons else []),
            *([("answer tokens", self._lengths)] if self.figures.lengths else []),
            *([("diversity", f"{self.diversity}, among a prompt's answers")] if self.diversity else []),
        ]

    @property
    def _rates(self) -> str:
        seconds = max(self.generation_seconds, 1e-3)
        made = self.answers - self.reused + self.failed
        return (
            f"{made / seconds:,.2f} rows/s, {self.prompt_tokens / seconds:,.0f} prompt tok/s, "
            f"{self.tokens_per_second:,.0f} output tok/s"
        )

    @property
    def _reasons(self) -> str:
        total = self.figures.reasons.total()
        counts = self.figures.reasons.most_common()
        return ", ".join(f"{name} {count:,} ({count / total:.0%})" for name, count in counts)

    @property
    def _lengths(self) -> str:
        length = self.figures.length
        return f"median {length(0.5):,}, 95% {length(0.95):,}, longest {length(1.0):,}"

    @property
    def _kept(self) -> str:
        return f" ({self.reused:,} of an earlier run)" if self.reused else ""


def print_report(report: SampleReport) -> None:
    """The summary as a table, and what one might do next."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="infer", show_header=False, title_justify="left")
    for name, value in report.rows():
        table.add_row(name, value, style="red" if name == "failed" and report.failed else None)
    # Paths stay whole for copying, also when the output goes to a file.
    console = Console(soft_wrap=True)
    console.print(table)
    if report.errors:
        console.print(f"failures in {report.errors}", markup=False, highlight=False)
    console.print(f"answers in {report.output}", markup=False, highlight=False)
    if report.picture:
        console.print(f"picture in {report.picture}", markup=False, highlight=False)
    console.print("next:", style="bold")
    for command in next_commands(report):
        console.print(f"  {command}", markup=False, highlight=False)


def next_commands(report: SampleReport) -> list[str]:
    """Commands that use the answers."""
    first = (
        f"head -n 1 {report.output}" if report.output.suffix == ".jsonl" else f"head -n 20 {report.output}"
    )
    commands = [first, f"autoalign-cli data stats {report.output}"]
    if report.diversity is not None:
        scored = report.output.with_name(f"{report.output.stem}.scored.jsonl")
        commands.append(
            f"autoalign-cli score --scorer numeric --data-path {report.output} --output-file {scored}"
            "  # other scorers: docs/scoring.md"
        )
    return commands
