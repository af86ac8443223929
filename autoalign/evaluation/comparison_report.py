"""A comparison as text: for the terminal, as Markdown, as one HTML file with its picture in it."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from autoalign.evaluation.table import cells

if TYPE_CHECKING:
    from autoalign.evaluation.compare import Comparison, Difference, Flip

_SHOWN = 10  # flipped questions of each benchmark and direction
_LONGEST = 600  # characters of a prompt or an answer
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:.35em .7em;text-align:left}"
    "th{background:#f3f3f3}.yes{font-weight:600}img{max-width:100%}"
    "pre{white-space:pre-wrap;background:#f7f7f7;padding:.6em}details{margin:.4em 0}"
)


def plain(comparison: Comparison) -> str:
    """Tables of aligned columns."""
    return "\n".join(
        [_aligned(scores(comparison)), "", _aligned(differences(comparison)), "", reading(comparison)]
    )


def markdown(comparison: Comparison) -> str:
    """The whole report."""
    parts = [f"# {_title(comparison)}", reading(comparison), "## Scores", _pipes(scores(comparison))]
    parts += [
        "![scores with 95% intervals](comparison.png)",
        "## Differences",
        _pipes(differences(comparison)),
    ]
    for each in comparison.differences:
        parts += [f"## Questions that flipped: {each.benchmark}, {each.base} to {each.model}"]
        for title, flips in _directions(each):
            parts.append(f"### {title} ({len(flips)})")
            parts += [_flip_markdown(flip, each) for flip in flips[:_SHOWN]]
    return "\n\n".join(parts) + "\n"


def html(comparison: Comparison) -> str:
    """One file that can be sent to a colleague."""
    picture = comparison.folder / "comparison.png"
    image = ""
    if picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode()
        image = f'<img alt="scores with 95% intervals" src="data:image/png;base64,{data}">'
    body = [f"<h1>{escape(_title(comparison))}</h1>", f"<p>{escape(reading(comparison))}</p>"]
    body += ["<h2>Scores</h2>", _table(scores(comparison)), image]
    body += ["<h2>Differences</h2>", _table(differences(comparison))]
    for each in comparison.differences:
        names = (escape(name) for name in (each.benchmark, each.base, each.model))
        body.append("<h2>Questions that flipped: {}, {} to {}</h2>".format(*names))
        for title, flips in _directions(each):
            body.append(f"<h3>{escape(title)} ({len(flips)})</h3>")
            body += [_flip_html(flip, each) for flip in flips[:_SHOWN]]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(_title(comparison))}</title>'
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def scores(comparison: Comparison) -> list[list[str]]:
    """A row for each benchmark, a column for each model."""
    header, *lines = cells({each.name: each.results for each in comparison.models})
    table = [["benchmark", *(line[0] for line in lines)]]
    return table + [[name, *(line[place] for line in lines)] for place, name in enumerate(header) if place]


def differences(comparison: Comparison) -> list[list[str]]:
    """A row for each benchmark and pair of models."""
    level = f"{100 * comparison.level:g}%"
    table = [
        [
            "benchmark",
            "models",
            "difference",
            f"{level} interval",
            "p",
            "significant",
            "better",
            "worse",
            "questions",
        ]
    ]
    for each in comparison.differences:
        table.append(
            [
                each.benchmark,
                f"{each.model} - {each.base}",
                f"{each.value:+.2f}",
                f"[{each.low:+.2f}, {each.high:+.2f}]",
                "<0.001" if each.p_value < 0.001 else f"{each.p_value:.3f}",
                "yes" if each.significant else "no",
                str(len(each.better)),
                str(len(each.worse)),
                str(each.count),
            ]
        )
    return table


def reading(comparison: Comparison) -> str:
    """What it comes to, in a sentence or two."""
    said = [
        f"{each.model} is {'better' if each.value > 0 else 'worse'} than {each.base} on {each.benchmark} "
        f"by {abs(each.value):.2f} points"
        for each in comparison.differences
        if each.significant
    ]
    level = f"{100 * comparison.level:g}%"
    how = f"(paired bootstrap over the same questions, {level})"
    if not comparison.differences:
        return "The models were asked no question in common, so nothing can be said about a difference."
    if not said:
        return f"No difference is significant {how}: more questions, or another run, may show one."
    rest = len(comparison.differences) - len(said)
    others = f" {rest} other differences are not significant." if rest else ""
    return f"{'; '.join(said)} {how}.{others}"


def _title(comparison: Comparison) -> str:
    return " and ".join(each.name for each in comparison.models) + ", compared"


def _directions(each: Difference) -> list[tuple[str, tuple[Flip, ...]]]:
    return [(f"{each.model} does better", each.better), (f"{each.model} does worse", each.worse)]


def _aligned(table: list[list[str]]) -> str:
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in table]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:]])


def _pipes(table: list[list[str]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in table]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join("---" for _ in table[0]), *lines[1:]])


def _table(table: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table[0])
    rows = [
        "<tr>"
        + "".join(f"<td{' class=yes' if cell == 'yes' else ''}>{escape(cell)}</td>" for cell in line)
        + "</tr>"
        for line in table[1:]
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"... {text[-_LONGEST:]}"


def _said(flip: Flip, each: Difference) -> list[tuple[str, str]]:
    return [
        (f"{each.base}, score {flip.before.score:g}", _short(" / ".join(flip.before.answers))),
        (f"{each.model}, score {flip.after.score:g}", _short(" / ".join(flip.after.answers))),
    ]


def _flip_markdown(flip: Flip, each: Difference) -> str:
    parts = [("asked", _short(flip.prompt)), *_said(flip, each)]
    if flip.before.reference:
        parts.append(("reference", _short(flip.before.reference)))
    blocks = [
        f"{title}:\n\n" + "\n".join(f"    {line}" for line in text.splitlines()) for title, text in parts
    ]
    return f"**{flip.id}**\n\n" + "\n\n".join(blocks)


def _flip_html(flip: Flip, each: Difference) -> str:
    parts = [("asked", _short(flip.prompt)), *_said(flip, each)]
    if flip.before.reference:
        parts.append(("reference", _short(flip.before.reference)))
    blocks = "".join(f"<p>{escape(title)}</p><pre>{escape(text)}</pre>" for title, text in parts)
    return f"<details><summary>{escape(flip.id)}</summary>{blocks}</details>"
