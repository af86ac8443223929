"""Files to rows: containers, encodings, line numbers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from autoalign.errors import DataError
from autoalign.formats import load
from autoalign.formats._read import read_rows


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def lines(path: str) -> list[int]:
    return [row.line for row in read_rows(path)]


ROW = '{"question": "a", "answer": "b"}'


def test_jsonl_lines_count_blank_lines(tmp_path: Path) -> None:
    assert lines(write(tmp_path / "a.jsonl", f"{ROW}\n\n{ROW}\n   \n{ROW}")) == [1, 3, 5]


def test_an_array_row_has_the_line_it_starts_on(tmp_path: Path) -> None:
    text = (
        '[\n  {\n    "question": "a",\n    "answer": "b"\n  },\n  {"question": "c"}, {"question": "d"}\n\n]\n'
    )
    assert lines(write(tmp_path / "a.json", text)) == [2, 6, 6]


def test_a_json_file_that_is_really_jsonl(tmp_path: Path) -> None:
    assert lines(write(tmp_path / "a.json", f"{ROW}\n{ROW}\n")) == [1, 2]


def test_a_jsonl_file_that_is_really_an_array(tmp_path: Path) -> None:
    assert lines(write(tmp_path / "a.jsonl", f"[{ROW},\n{ROW}]")) == [1, 2]


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    assert lines(write(tmp_path / "a.json", '\n{\n  "question": "a"\n}\n')) == [2]


def test_bom_and_crlf_are_accepted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + f"{ROW}\r\n{ROW}\r\n".encode())
    assert [record.line for record in load(path)] == [1, 2]
    assert len(load(write(tmp_path / "b.json", b"\xef\xbb\xbf" + f"[{ROW}]\r\n".encode()))) == 1


def test_gzip(tmp_path: Path) -> None:
    assert lines(write(tmp_path / "a.jsonl.gz", gzip.compress(f"{ROW}\n{ROW}".encode()))) == [1, 2]


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(ROW.encode() * 50)[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        lines(path)


def test_csv_with_a_line_break_in_a_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffquestion,answer\r\n"two\r\nlines",b\r\nc,d\r\n')
    rows = list(read_rows(path))
    assert [(row.line, row.value["question"]) for row in rows] == [(2, "two\r\nlines"), (4, "c")]


def test_a_csv_row_with_too_few_cells_is_bad(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:3: 2 cells are expected, as in the header, found 1"):
        load(write(tmp_path / "a.csv", "question,answer\na,b\nc\n"))


@pytest.mark.parametrize(
    ("key", "cell", "decoded"),
    [
        ("input", '["apple","pear"]', False),
        ("input", '{"a": 1}', False),
        ("input", '{"messages": []}', True),
        ("prompt", "[1, 2]", False),
        ("completion", '[{"from": "Rome", "to": "Bari"}]', False),
        ("rejected", '{"role": "admin"}', False),
        ("chosen", '{"from": "gpt", "value": "a"}', True),
        ("prompt", '[{"role": "user", "content": "a"}, 1]', True),
        ("tools", "[]", True),
        ("messages", "[not JSON", False),
        ("question", '[{"role": "user", "content": "a"}]', False),
    ],
)
def test_a_csv_cell_is_decoded_where_it_holds_turns(
    tmp_path: Path, key: str, cell: str, decoded: bool
) -> None:
    quoted = cell.replace('"', '""')
    (row,) = read_rows(write(tmp_path / "a.csv", f'{key},n\n"{quoted}",b\n'))
    assert row.value[key] == (json.loads(cell) if decoded else cell)


def test_an_alpaca_input_that_looks_like_json_stays_text(tmp_path: Path) -> None:
    text = 'instruction,input,output\nSort.,"[""pear"",""apple""]",b\n'
    (record,) = load(write(tmp_path / "a.csv", text)).conversations
    assert record.messages[0].content == 'Sort.\n["pear","apple"]'


def test_parquet_rows_lose_the_nulls_that_parquet_adds(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}] * 3), tmp_path / "a.parquet")
    rows = list(read_rows(str(tmp_path / "a.parquet")))
    assert [row.line for row in rows] == [1, 2, 3]
    assert rows[0].value == {"messages": turns}


def test_an_fsspec_url_is_read() -> None:
    import fsspec

    with fsspec.open("memory://folder/a.jsonl", "wb") as handle:
        handle.write(ROW.encode())
    assert load("memory://folder/a.jsonl")[0].id == "a-1"


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        load("nonsense://a.jsonl")


def test_broken_json_names_its_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", f"{ROW}\n" * 6 + '{"question": "a" "answer"}\n' + ROW)
    with pytest.raises(DataError, match=r"a\.jsonl:7: broken JSON at column 18"):
        load(path)


def test_a_broken_array_names_its_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", "[\n" + f"{ROW},\n" * 5 + '{"question": oops}]')
    with pytest.raises(DataError, match=r"a\.json:7: broken JSON at column 14"):
        load(path)


def test_wrong_encoding_names_byte_position_and_line(tmp_path: Path) -> None:
    good = f"{ROW}\n".encode()
    path = write(tmp_path / "a.jsonl", good + '{"question": "中"}'.encode("gb18030"))
    position = len(good) + len('{"question": "')
    with pytest.raises(DataError, match=rf"a\.jsonl:2: not UTF-8: byte 0xd6 at position {position};.*iconv"):
        load(path)


def test_utf_16_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not UTF-8.*iconv -f UTF-16"):
        load(write(tmp_path / "a.json", f"[{ROW}]".encode("utf-16")))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.json.gz"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="the file is empty"):
        load(write(tmp_path / name, gzip.compress(b"") if name.endswith("gz") else b""))


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        load(write(tmp_path / "a.json", " [ ]\n"))


def test_a_missing_file_a_folder_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="this is a folder"):
        load(tmp_path / "folder.jsonl")
    with pytest.raises(DataError, match=r"a data file ends in \.json"):
        load(write(tmp_path / "a.txt", ROW))


def test_nesting_that_overflows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nested too deeply|broken JSON"):
        load(write(tmp_path / "a.json", "[" * 200_000))


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="broken JSON"):
        load(write(tmp_path / "a.json", '[{"question": NaN}]'))
