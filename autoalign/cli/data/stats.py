"""`autoalign-cli data stats`: how much there is, how long it is, what repeats."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autoalign import formats
from autoalign.cli.data import _flags
from autoalign.cli.data._diversity import AnswerSample
from autoalign.cli.data._measure import Count, Measures, histogram, measure, summary
from autoalign.cli.data._plot import draw
from autoalign.cli.data._progress import progress
from autoalign.cli.data._scores import Scores
from autoalign.cli.data._tokenizer import load_tokenizer

SUMMARY = "rows, turns, lengths, roles, duplicates, scores, and histograms (--plot: as a picture)"
DESCRIPTION = "Figures of data files: lengths in characters, with --tokenizer in tokens."


def run(args: list[str]) -> int:
    """Print the figures of all files together."""
    parser = _flags.file_parser("stats", DESCRIPTION, several=True)
    _flags.add_kind(parser)
    _flags.add_bad_rows(parser)
    parser.add_argument("--tokenizer", metavar="PATH", help="model folder or hub name: count tokens")
    parser.add_argument("--diversity", action="store_true", help="distinct-n and self-BLEU of the answers")
    parser.add_argument(
        "--embedder", metavar="PATH", help="with --diversity: model whose vectors tell how far they lie apart"
    )
    parser.add_argument("--plot", metavar="FILE.png", type=_picture, help="histograms as a picture")
    options = parser.parse_strict(args)
    if options.embedder and not options.diversity:
        parser.error("--embedder goes with --diversity")
    records = formats.iter_records(
        options.file,
        kind=options.kind,
        format=options.format,
        on_bad_row=options.on_bad_row,
        errors_path=options.errors_path,
    )
    count = token_counter(load_tokenizer(options.tokenizer)) if options.tokenizer else character_counter
    answers, scores = AnswerSample(), Scores()
    unit = "tokens" if options.tokenizer else "characters"
    with progress():
        passed = scores.of(records)
        found = measure(answers.of(passed) if options.diversity else passed, count)
    for line in (*report(found, unit), *scores.lines()):
        print(line)
    if options.diversity:
        for line in answers.lines(options.embedder):
            print(line)
    if options.plot:
        named = {
            name if name == "turns" else f"{name} ({unit})": each for name, each in found.lengths.items()
        }
        draw({**named, **scores.values}, options.plot, f"{', '.join(options.file)}: {found.rows:,} rows")
        print(f"\n{options.plot}")
    return 0


def _picture(text: str) -> Path:
    """A path that ends in .png, for argparse."""
    if not text.lower().endswith(".png"):
        raise ArgumentTypeError(f"a file that ends in .png is expected, not '{text}'")
    return Path(text)


def character_counter(texts: Sequence[str]) -> list[int]:
    """Unicode characters of each text."""
    return [len(text) for text in texts]


def token_counter(tokenizer: Any) -> Count:
    """Counts tokens, without those that a chat template adds."""

    def count(texts: Sequence[str]) -> list[int]:
        return [
            len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        ]

    return count


def report(found: Measures, unit: str) -> Iterator[str]:
    """The lines that are printed."""
    yield f"rows        {found.rows:,}"
    yield f"roles       {', '.join(f'{role} {count:,}' for role, count in found.roles.most_common())}"
    if found.labels:
        yield f"labels      {found.labels[True]:,} good, {found.labels[False]:,} bad"
    yield f"duplicates  {found.same_rows:,} rows, {found.same_prompts:,} prompts"
    share = found.cjk_letters / found.letters if found.letters else 0.0
    yield (
        f"languages   {found.cjk_rows:,} rows mostly Chinese, Japanese or Korean, "
        f"{found.rows - found.cjk_rows:,} others; {share:.1%} of the letters are CJK"
    )
    yield ""
    yield f"{'':20}{'min':>10}{'median':>10}{'mean':>10}{'p95':>10}{'max':>10}"
    yield _row("turns", found.lengths["turns"])
    parts = [name for name in found.lengths if name != "turns"]
    for name in parts:
        yield _row(f"{name} ({unit})", found.lengths[name])
    for name in parts[1:]:
        yield ""
        yield f"{name}, {unit}"
        yield from histogram(found.lengths[name])


def _row(label: str, values: Sequence[int]) -> str:
    figures = summary(values)
    return f"{label:<20}" + "".join(
        f"{value:>10,.1f}" if name == "mean" else f"{value:>10,.0f}"
        for name, value in figures._asdict().items()
    )
