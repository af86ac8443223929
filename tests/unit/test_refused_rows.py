"""Rows that the chat template refuses: the job stops, or leaves them out and says so, in quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import byte_level

from autoalign import formats
from autoalign.chat import get_template
from autoalign.config.sft import SFTConfig
from autoalign.errors import DataError
from autoalign.training import prepare, stream
from autoalign.training.reporting import Display
from autoalign.training.tokens import TokenizeOptions, TokenTable, tokenize

REFUSAL = "template 'gemma' refuses the row"  # a system message


def turns(answer: str, *before: dict[str, str]) -> list[dict[str, str]]:
    return [*before, {"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]


SYSTEM = {"role": "system", "content": "s"}
ROWS = [{"messages": turns("a")}, {"messages": turns("b", SYSTEM)}, {"messages": turns("c")}]
TOOL = {"role": "tool", "content": "t"}
PAIRS = [
    {"prompt": "q", "chosen": turns("a")[1:], "rejected": turns("b")[1:]},
    {"prompt": "q", "chosen": turns("c")[1:], "rejected": [*turns("d")[1:], TOOL, *turns("e")[1:]]},
    {"prompt": "q", "chosen": turns("f")[1:], "rejected": turns("g")[1:]},
]


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def options(folder: Path, **values: Any) -> TokenizeOptions:
    return TokenizeOptions("", get_template("gemma"), 512, "truncate", folder / "cache", **values)


def tokenized(path: Path, refused: list[DataError], **values: Any) -> TokenTable:
    records = formats.load(path).records
    rows = [row for record in records for row in prepare._rows_of(record)]
    return tokenize(
        rows, byte_level(adds_bos=False), options(path.parent, **values), "d", on_refused=refused.append
    )


def said(table: Any) -> list[str]:
    tokenizer = byte_level(adds_bos=False)
    rows = [table.row(index) for index in range(len(table))]
    return [tokenizer.decode(row.input_ids[row.supervised]).removesuffix("<end_of_turn>") for row in rows]


def test_the_first_refused_row_stops_the_job_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=REFUSAL) as caught:
        tokenized(write(tmp_path, ROWS), [])
    assert caught.value.line == 2


def test_quarantine_leaves_refused_rows_out_and_tells_them_again_from_the_cache(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    for _ in range(2):
        refused: list[DataError] = []
        assert said(tokenized(path, refused, skips_refused=True)) == ["a", "c"]
        assert [(each.file, each.line, REFUSAL in each.message) for each in refused] == [(str(path), 2, True)]
    with pytest.raises(DataError, match=REFUSAL):  # what was made without the row is not taken for all rows
        tokenized(path, [])


def test_both_halves_of_a_pair_go(tmp_path: Path) -> None:
    """Gemma's template knows no tool turns, so the second pair's worse answer can't be written."""
    refused: list[DataError] = []
    table = tokenized(write(tmp_path, PAIRS), refused, rows_per_example=2, skips_refused=True)
    assert said(table) == ["a", "b", "f", "g"] and [each.line for each in refused] == [2]


def test_no_row_at_all_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=REFUSAL):
        tokenized(write(tmp_path, ROWS[1:2]), [], skips_refused=True)


def test_streamed_rows_go_to_quarantine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level(adds_bos=False)
    monkeypatch.setattr(stream, "_tokenizer", lambda *_: tokenizer)
    path, wanted = write(tmp_path, ROWS), options(tmp_path, skips_refused=True)
    reading = stream.Reading("sft", None, 0, True, wanted, prepare._rows_of)
    split = formats.split(formats.parse_sources(path), "sft", None)
    for again in range(2):
        problems = formats.Problems("quarantine", tmp_path / f"errors-{again}.jsonl")
        done = stream.prepare(split, reading, tokenizer, split.digest, problems, with_ray=False)
        assert said(done.table) == ["a", "c"] and done.bad_rows == 1
        entry = json.loads(problems.path.read_text())
        assert (entry["file"], entry["line"], entry["row"]["messages"][0]["content"]) == (str(path), 2, "s")


def test_a_streamed_row_that_is_refused_stops_the_job_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_level(adds_bos=False)
    monkeypatch.setattr(stream, "_tokenizer", lambda *_: tokenizer)
    path = write(tmp_path, ROWS)
    reading = stream.Reading("sft", None, 0, False, options(tmp_path), prepare._rows_of)
    split = formats.split(formats.parse_sources(path), "sft", None)
    with pytest.raises(DataError, match=REFUSAL):
        stream.prepare(split, reading, tokenizer, "d", formats.Problems("stop"), with_ray=False)


def test_a_job_in_quarantine_writes_refused_rows_beside_the_bad_ones(tmp_path: Path) -> None:
    path = write(tmp_path, [*ROWS, {"messages": turns("")}])
    config = SFTConfig(
        model_name_or_path="m",
        data_path=[str(path)],
        output_dir=str(tmp_path / "out"),
        on_bad_row="quarantine",
        cache_dir=str(tmp_path / "cache"),
    )
    reader = prepare._Reader(
        byte_level(adds_bos=False),
        "",
        get_template("gemma"),
        tmp_path / "errors.jsonl",
        Display("sft", quiet=True),
    )
    assert said(reader.load(config, config.data_path).table) == ["a", "c"]
    entries = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [entry["line"] for entry in entries] == [4, 2]


def test_copies_of_a_row_are_written_down_once(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    records = formats.load(f"{path}@2").records
    refused = [DataError(REFUSAL, str(path), 2)] * 2
    ((problem, raw),) = stream.raw_refused(refused, records)
    assert (problem.line, raw.line, raw.value["messages"][0]["content"]) == (2, 2, "s")
