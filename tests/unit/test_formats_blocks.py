"""Files read in blocks give the records, lines and problems that they give when read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoalign import formats
from autoalign.errors import DataError
from autoalign.formats import _blocks


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end where a chunk of the file does."""
    monkeypatch.setattr(_blocks, "CHUNK", 64)


def read(path: Path, problems: list[Any] | None = None, size: int = 100) -> tuple[int, list[Any], str]:
    """How many blocks, all records, and the digest."""
    found = formats.split(formats.parse_sources(path), "sft", None, size)
    note = lambda problem, raw: (problems if problems is not None else []).append(str(problem))  # noqa: E731
    records = [r for block in found.blocks for r in formats.read_block(block, "sft", None, 0, note)]
    return len(found.blocks), records, found.digest


def lines(count: int) -> list[str]:
    return [json.dumps({"question": f"What is {n}?", "answer": str(n) * (n % 9 + 1)}) for n in range(count)]


@pytest.mark.parametrize("end", ["\n", ""])
def test_jsonl_in_blocks_is_jsonl_read_whole(tmp_path: Path, end: str):
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + "\n\n".join(lines(50)) + end, encoding="utf-8")
    blocks, records, digest = read(path)
    whole = formats.load(path)
    assert blocks > 10
    assert [(r.messages, r.line) for r in records] == [(r.messages, r.line) for r in whole.conversations]
    assert digest == whole.digest


def test_a_bad_row_is_named_by_its_line_in_the_file(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    rows = lines(40)
    rows[32] = '{"question": "Who?", "answer": ""}'
    rows[35] = '{"question": '
    path.write_text("\n".join(rows))
    problems: list[str] = []
    blocks, records, _ = read(path, problems)
    assert (blocks > 5, len(records)) == (True, 38)
    assert problems[0] == f"{path}:33: answer: the answer is empty"
    assert problems[1].startswith(f"{path}:36: broken JSON")


def test_a_row_of_another_format_in_a_later_block_is_bad(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*lines(30), '{"instruction": "Say 1", "output": "1"}']))
    problems: list[str] = []
    read(path, problems)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:31: this row is alpaca, the rows before it are question_answer")


def test_parquet_is_cut_at_row_groups(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines(30)]), path, row_group_size=7)
    blocks, records, _ = read(path, size=1)
    assert blocks == 5
    assert [r.line for r in records] == list(range(1, 31))
    assert [r.messages for r in records] == [r.messages for r in formats.load(path).conversations]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_array_is_one_block(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text("[" + ",\n".join(lines(20)) + "]")
    blocks, records, _ = read(path)
    assert (blocks, [r.line for r in records]) == (1, list(range(1, 21)))


def test_a_weight_counts_in_every_block(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines(40)))
    found = formats.split(formats.parse_sources(f"{path}@2"), "sft", None, 100)
    records = [r for b in found.blocks for r in formats.read_block(b, "sft", None, 0, lambda *_: None)]
    assert len(records) == 80


@pytest.mark.parametrize("row", [{"question": "Who?", "answer": ""}, {"kind": "of no format"}])
def test_a_file_of_bad_rows_alone_is_read_as_that(tmp_path: Path, row: dict[str, str]):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    problems: list[str] = []
    assert read(path, problems)[:2] == (1, [])
    with pytest.raises(DataError) as whole:
        formats.load(path)
    assert problems == [str(whole.value)]
