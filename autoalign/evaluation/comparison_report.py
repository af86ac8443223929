"""A comparison as text: for the terminal, as Markdown, as one HTML file with its picture in it."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from autoalign.evaluation.how_asked import cautions, settings
from autoalign.evaluation.own_parts import own_parts
from autoalign.evaluation.paired import pairs_of
from autoalign.evaluation.results import Result

if TYPE_CHECKING:
    from autoalign.evaluation.compare import Comparison, Difference, Evaluated, Flip

_SHOWN = 10  # flipped questions of each benchmark and direction
_LONGEST = 600  # characters of a prompt or an answer
_LONG = 40  # of a cell that may have several lines
_TITLE = 90  # and of a prompt where its question is folded away
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:76em;margin:2em auto;padding:0 1em;color:#222}"
    "h1{font-size:1.6em;line-height:1.25}h2{margin-top:1.8em;font-size:1.25em}h3{font-size:1.05em}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}"
    "td,th{border:1px solid #ddd;padding:.35em .6em;text-align:left;vertical-align:top;white-space:nowrap}"
    "td.long{white-space:normal;min-width:16em}"
    "th{background:#f4f5f7}tr.yes td{font-weight:600;background:#eef6ee}img{max-width:100%}"
    ".reading{font-size:1.1em}.caution{border-left:4px solid #e69f00;background:#fdf6e3;padding:.5em .9em}"
    ".small{color:#555;font-size:.92em}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f7f7f7;padding:.6em;margin:.2em 0 .8em}"
    "details{margin:.4em 0;border:1px solid #e3e3e3;border-radius:4px;padding:.3em .7em}"
    "summary{cursor:pointer}details p{margin:.3em 0 0;font-weight:600}"
)


def plain(comparison: Comparison) -> str:
    """Tables of aligned columns."""
    parts = [_aligned(scores(comparison)), "", _aligned(differences(comparison)), "", reading(comparison)]
    return "\n".join([*parts, *notes(comparison)])


def markdown(comparison: Comparison) -> str:
    """The whole report."""
    parts = [f"# {_title(comparison)}", reading(comparison)]
    parts += [f"> {caution}" for caution in notes(comparison)]
    parts += ["## Scores", _pipes(scores(comparison))]
    if (comparison.folder / "comparison.png").is_file():
        parts.append("![scores with 95% intervals](comparison.png)")
    parts += ["## Differences", _pipes(differences(comparison)), explained(comparison)]
    parts += ["## How they were asked", _pipes(settings(comparison.models))]
    for each in comparison.differences:
        parts += [f"## Questions that flipped: {each.benchmark}, {each.base} to {each.model}"]
        for title, flips in _directions(each):
            parts.append(f"### {title} ({_shown(flips)})")
            parts += [_flip_markdown(flip, each) for flip in flips[:_SHOWN]]
    return "\n\n".join(parts) + "\n"


def html(comparison: Comparison) -> str:
    """One file that can be sent to a colleague."""
    picture = comparison.folder / "comparison.png"
    image = ""
    if picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode()
        image = f'<img alt="scores with 95% intervals" src="data:image/png;base64,{data}">'
    body = [f"<h1>{escape(_title(comparison))}</h1>"]
    body.append(f'<p class="reading">{escape(reading(comparison))}</p>')
    body += [f'<p class="caution">{escape(caution)}</p>' for caution in notes(comparison)]
    body += ["<h2>Scores</h2>", _table(scores(comparison)), image]
    body += ["<h2>Differences</h2>", _table(differences(comparison))]
    body.append(f'<p class="small">{escape(explained(comparison))}</p>')
    body += ["<h2>How they were asked</h2>", _table(settings(comparison.models))]
    for each in comparison.differences:
        names = (escape(name) for name in (each.benchmark, each.base, each.model))
        body.append("<h2>Questions that flipped: {}, {} to {}</h2>".format(*names))
        for title, flips in _directions(each):
            body.append(f"<h3>{escape(title)} ({_shown(flips)})</h3>")
            titles = own_parts([flip.prompt for flip in flips])
            body += [
                _flip_html(flip, each, title) for flip, title in zip(flips[:_SHOWN], titles, strict=False)
            ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(_title(comparison))}</title>"
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def scores(comparison: Comparison) -> list[list[str]]:
    """A row for each figure of a benchmark, a column for each model; `-` where it was not asked."""
    named = _named(comparison)
    table = [["benchmark", "measure", "questions", *(each.name for each in comparison.models)]]
    for benchmark, metric in named:
        found = [_figure(each, benchmark, metric) for each in comparison.models]
        counts = dict.fromkeys(str(each.count) for each in found if each and each.error is None)
        told = [_cell(each) for each in found]
        table.append([benchmark, metric, " / ".join(counts) or "-", *told])
    return table


def differences(comparison: Comparison) -> list[list[str]]:
    """A row for each benchmark and pair of models."""
    level = f"{100 * comparison.level:g}%"
    several = len(comparison.models) > 2
    header = ["benchmark", *(["models"] if several else []), "measure", "before", "after", "difference"]
    table = [[*header, f"{level} interval", "p", "significant", "better", "worse", "same"]]
    for each in comparison.differences:
        models = [f"{each.base} to {each.model}"] if several else []
        row = [each.benchmark, *models, each.measure, f"{each.before:.2f}", f"{each.after:.2f}"]
        row += [f"{each.value:+.2f}", f"[{each.low:+.2f}, {each.high:+.2f}]"]
        row.append("<0.001" if each.adjusted_p < 0.001 else f"{each.adjusted_p:.3f}")
        row.append("yes" if each.significant else "no")
        flips = (len(each.better), len(each.worse))
        table.append([*row, *map(str, flips), str(each.count - sum(flips))])
    return table


def notes(comparison: Comparison) -> list[str]:
    """What a reader should know before believing the figures."""
    tested = {(each.benchmark, each.model) for each in comparison.differences}
    base, *others = comparison.models
    said = cautions(comparison.models)
    for model in others:
        both = _asked(base) & _asked(model)
        failed = both & (base.failed | model.failed)
        unlike = {name: _unlike(name, base, model) for name in sorted(both - failed)}
        lost = [name for name in unlike if (name, model.name) not in tested]
        if failed:
            said.append(
                f"{', '.join(sorted(failed))}: {base.name} or {model.name} lacks a figure on it, so their "
                "difference is not tested."
            )
        said += [
            f"{name}: {count} questions with the same id have another text for {model.name} than for "
            f"{base.name}, and are left out of their difference."
            for name, count in unlike.items()
            if count
        ]
        if lost:
            said.append(
                f"{', '.join(lost)}: no question has a score of both {base.name} and {model.name}, so their "
                "difference is not tested."
            )
    return said


def _unlike(benchmark: str, base: Evaluated, model: Evaluated) -> int:
    """Questions of one id that the two were asked in different words."""
    return pairs_of(base.questions.get(benchmark, {}), model.questions.get(benchmark, {})).unlike


def _asked(model: Evaluated) -> set[str]:
    return {each.benchmark for each in model.results}


def explained(comparison: Comparison) -> str:
    """What the table of differences says."""
    count = len(comparison.differences)
    family = f", adjusted for the {count} differences of this report (Holm)" if count > 1 else ""
    return (
        f"Before is {comparison.models[0].name}, over the same questions; a set of several subsets is the "
        "mean of their means. The interval is the paired bootstrap's, within each subset; p is that of an "
        "exact test (McNemar's for rights and wrongs, else Fisher's randomisation)"
        f"{family}. Better and worse count the questions whose score rose and fell. "
        f"Significant: the interval leaves 0 out, and p is below {1 - comparison.level:g}."
    )


def reading(comparison: Comparison) -> str:
    """What it comes to, in a sentence or two."""
    said = [
        f"{each.model} is {'better' if each.value > 0 else 'worse'} than {each.base} on {each.benchmark} "
        f"by {abs(each.value):.2f} points ({each.measure} {each.before:.2f} to {each.after:.2f})"
        for each in comparison.differences
        if each.significant
    ]
    level = f"{100 * comparison.level:g}%"
    how = f"(paired bootstrap over the same questions, {level})"
    if not comparison.differences:
        return "No benchmark has scores of both models, so nothing can be said about a difference."
    if not said:
        return f"No difference is significant {how}: more questions may show one."
    rest = len(comparison.differences) - len(said)
    others = "" if not rest else f" {rest} other difference{'s are' if rest > 1 else ' is'} not significant."
    return f"{'; '.join(said)} {how}.{others}"


def _named(comparison: Comparison) -> list[tuple[str, str]]:
    """Benchmark and metric of every figure; a benchmark that failed everywhere has none of its own."""
    named: dict[str, dict[str, None]] = {}
    for result in (result for each in comparison.models for result in each.results):
        metrics = named.setdefault(result.benchmark, {})
        if not result.failed_whole:
            metrics[result.metric] = None
    return [(benchmark, metric) for benchmark, metrics in named.items() for metric in metrics or ("-",)]


def _figure(model: Evaluated, benchmark: str, metric: str) -> Result | None:
    own = [each for each in model.results if each.benchmark == benchmark]
    failed = next((each for each in own if each.failed_whole), None)
    return next((each for each in own if each.metric == metric), failed)


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    if result.error is not None or result.value is None:
        return f"failed: {result.error or 'no figure'}"
    value = f"{result.value:.2f}{result.unit}"
    return value if result.low is None else f"{value} [{result.low:.2f}, {result.high:.2f}]"


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
        f"<tr{' class=yes' if 'yes' in line else ''}>"
        + "".join(f"<td{' class=long' if len(cell) > _LONG else ''}>{escape(cell)}</td>" for cell in line)
        + "</tr>"
        for line in table[1:]
    ]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _shown(flips: tuple[Flip, ...]) -> str:
    return str(len(flips)) if len(flips) <= _SHOWN else f"{len(flips)}, the first {_SHOWN} of them"


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


def _flip_html(flip: Flip, each: Difference, own: str) -> str:
    parts = [("asked", _short(flip.prompt)), *_said(flip, each)]
    if flip.before.reference:
        parts.append(("reference", _short(flip.before.reference)))
    blocks = "".join(f"<p>{escape(title)}</p><pre>{escape(text)}</pre>" for title, text in parts)
    about = " ".join(own.split())
    title = f"{flip.id}: {about if len(about) <= _TITLE else about[:_TITLE] + '...'}"
    return f"<details><summary>{escape(title)}</summary>{blocks}</details>"
