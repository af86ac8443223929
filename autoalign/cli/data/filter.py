"""`autoalign-cli data filter`: keep the rows that pass every rule that is given."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator

from autoalign import formats
from autoalign.cli.data import _flags, _rows
from autoalign.curation.answers import AnswerRow
from autoalign.curation.duplicates import text_of
from autoalign.curation.overlap import Overlap
from autoalign.curation.scores import score_of
from autoalign.curation.spool import Groups
from autoalign.errors import DataError
from autoalign.formats._problems import Problems, to_json
from autoalign.records import PreferencePair

SUMMARY = "keep rows by score, best of n, keyword, length, or overlap with evaluation sets"
DESCRIPTION = """Write the rows that pass every rule, as they are. Rejection sampling:
--min-score 1 --max-per-prompt K; best of n: --best-of-n."""
Rule = Callable[[AnswerRow], bool]


def run(args: list[str]) -> int:
    """Write the rows that are left, and say which rule left out how many."""
    parser = _rows.writing_parser("filter", DESCRIPTION.replace("\n", " "))
    parser.add_argument("--score", metavar="NAME", help="the score of the rules (default: the only one)")
    _flags.add(parser, "min_score", type=float, metavar="X", help="least score")
    _flags.add(parser, "max_score", type=float, metavar="X", help="largest score")
    _flags.add(parser, "best_of_n", action="store_true", help="of each prompt the answer of the best score")
    _flags.add(parser, "max_per_prompt", type=_flags.positive, metavar="K", help="the first K of each prompt")
    parser.add_argument("--keyword", nargs="+", metavar="TEXT", help="answers with one of these")
    _flags.add(parser, "not_keyword", nargs="+", metavar="TEXT", help="answers with none of these")
    _flags.add(parser, "min_length", type=int, metavar="N", help="least characters of the answer")
    _flags.add(parser, "max_length", type=int, metavar="N", help="most characters of the answer")
    parser.add_argument(
        "--decontaminate", nargs="+", metavar="FILE", help="leave out rows that share words with these"
    )
    parser.add_argument(
        "--ngram", type=_flags.positive, default=13, metavar="N", help="words in a row (default: 13)"
    )
    options = parser.parse_strict(args)
    output, dropped = _rows.output_path(options), Counter[str]()
    rules = _rules(options)
    with _rows.reading(options) as (rows, problems), Groups(output.parent) as groups:
        passed = _passed(rows, rules, dropped, problems)
        kept = _per_prompt(passed, options, groups, dropped)
        count = formats.write_rows(output, kept)
    print(f"{output}: {count:,} of {count + dropped.total():,} rows")
    for name, number in dropped.items():
        print(f"  {number:>9,}  left out by {name}")
    _rows.said_bad(options, problems)
    return 0


def _rules(options: Namespace) -> dict[str, Rule]:
    """The rules that look at one row, by the name that the report gives them."""
    rules: dict[str, Rule] = {}
    if options.min_score is not None:
        rules["--min-score"] = lambda row: score_of(row.fields, options.score) >= options.min_score
    if options.max_score is not None:
        rules["--max-score"] = lambda row: score_of(row.fields, options.score) <= options.max_score
    if options.keyword:
        rules["--keyword"] = lambda row: _holds(row, options.keyword)
    if options.not_keyword:
        rules["--not-keyword"] = lambda row: not _holds(row, options.not_keyword)
    if options.min_length is not None:
        rules["--min-length"] = lambda row: len(text_of(row, "answer")) >= options.min_length
    if options.max_length is not None:
        rules["--max-length"] = lambda row: len(text_of(row, "answer")) <= options.max_length
    if options.decontaminate:
        known = Overlap(_evaluation(options.decontaminate), options.ngram)
        rules["--decontaminate"] = lambda row: _is_clean(row, known)
    return rules


def _holds(row: AnswerRow, keywords: list[str]) -> bool:
    text = text_of(row, "answer").casefold()
    return any(keyword.casefold() in text for keyword in keywords)


def _is_clean(row: AnswerRow, known: Overlap) -> bool:
    place = known.match(text_of(row, "both"))
    if place is not None:
        print("  {}:{} shares words with {}".format(*row.place, place))
    return place is None


def _evaluation(paths: list[str]) -> Iterator[tuple[str, str]]:
    for record in formats.iter_records(paths, purpose="prompts"):
        asked = record.prompt if isinstance(record, PreferencePair) else record.messages
        text = "\n".join(message.content for message in asked if message.role == "user")
        yield f"{record.source}:{record.line}", text


def _passed(
    rows: Iterator[AnswerRow], rules: dict[str, Rule], dropped: Counter[str], problems: Problems
) -> Iterator[AnswerRow]:
    for row in rows:
        try:
            failed = next((name for name, rule in rules.items() if not rule(row)), None)
        except DataError as error:
            problem = DataError(error.message, *row.place, error.field)
            problems.add(problem, formats.RawRow(row.place[1], row.fields))
            continue
        if failed is None:
            yield row
        else:
            dropped[failed] += 1


def _per_prompt(
    rows: Iterator[AnswerRow], options: Namespace, groups: Groups, dropped: Counter[str]
) -> Iterator[dict[str, object]]:
    """The rows of each prompt that are to stay; in the input's order unless prompts are gathered."""
    import orjson

    most = 1 if options.best_of_n else options.max_per_prompt
    if most is None:
        yield from (dict(row.fields) for row in rows)
        return
    name = "--best-of-n" if options.best_of_n else "--max-per-prompt"
    for row in rows:
        groups.add(row.answers[0].group, to_json(row.fields))
    for group in groups:
        found = [orjson.loads(each) for each in group]
        if options.best_of_n:
            found.sort(key=lambda fields: -score_of(fields, options.score))
        dropped[name] += len(found) - len(found[:most])
        yield from found[:most]
