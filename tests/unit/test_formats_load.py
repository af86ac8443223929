"""`load`, `iter_records`, `check` and `convert`: several files, weights, ids, quarantine."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from autoalign.errors import ConfigError, DataError, UnknownName
from autoalign.formats import check, convert, iter_records, load, refuse_bad_rows
from autoalign.records import LabelledAnswer


def rows_file(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def qa(count: int) -> list[dict[str, str]]:
    return [{"question": f"q{n}", "answer": f"a{n}"} for n in range(1, count + 1)]


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_a_dataset_is_a_sequence_that_says_where_it_is_from(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "train.jsonl", *qa(3))
    dataset = load(path)
    assert (len(dataset), dataset.kind, dataset.format) == (3, "sft", "question_answer")
    assert (dataset.paths, dataset.bad_rows, dataset.pairs) == ((path,), 0, ())
    assert [record.id for record in dataset] == ["train-1", "train-2", "train-3"]
    assert [(record.source, record.line) for record in dataset[1:]] == [(path, 2), (path, 3)]


def test_own_ids_are_kept_and_made_distinct(tmp_path: Path) -> None:
    rows = [{"id": 7, **row} for row in qa(3)]
    assert [r.id for r in load(rows_file(tmp_path / "a.jsonl", *rows))] == ["7", "7#2", "7#3"]


def test_the_digest_is_over_content_and_weights(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(2))
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert load(path).digest == hashlib.sha256(f"{content} 1.0\n".encode()).hexdigest()
    assert load(f"{path}@2").digest != load(path).digest
    assert load(rows_file(tmp_path / "b.jsonl", *qa(2))).digest == load(path).digest


def test_weight_2_gives_every_row_twice(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(2))
    assert [record.id for record in load(f"{path}@2")] == ["a-1", "a-1#2", "a-2", "a-2#2"]


def test_weight_a_half_gives_a_seeded_half(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(40))
    first, again, other = (load(f"{path}@0.5", seed=seed).records for seed in (0, 0, 1))
    assert len(first) == len(other) == 20
    assert first == again != other
    assert list(first) == sorted(first, key=lambda record: record.line)


def test_a_half_goes_by_a_files_place_not_its_name(tmp_path: Path) -> None:
    paths = [rows_file(tmp_path / name, *qa(40)) for name in ("a.jsonl", "b.jsonl")]
    first, second = ([record.line for record in load(f"{path}@0.5")] for path in paths)
    assert first == second
    both = [record.line for record in load([f"{path}@0.5" for path in paths])]
    assert both[:20] == first != both[20:]


def test_a_fraction_holds_over_many_windows(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(5000))
    assert len(load(f"{path}@0.3")) == 1500


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_must_be_above_0(tmp_path: Path, weight: str) -> None:
    with pytest.raises(DataError, match="must be a number above 0"):
        load(f"{rows_file(tmp_path / 'a.jsonl', *qa(1))}@{weight}")


def test_an_at_sign_in_a_name_is_no_weight(tmp_path: Path) -> None:
    assert len(load(rows_file(tmp_path / "a@2.jsonl", *qa(1)))) == 1


def test_streaming_gives_the_same_records(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(20))
    assert tuple(iter_records(f"{path}@1.5", seed=3)) == load(f"{path}@1.5", seed=3).records


def test_streaming_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    records = iter_records(rows_file(tmp_path / "a.jsonl", *qa(1), {"question": "q"}))
    assert next(records).id == "a-1"
    with pytest.raises(DataError, match=r"a\.jsonl:2: answer: no answer to train on"):
        next(records)


def test_limit_leaves_the_rest_unread(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(2), {"question": "bad"})
    assert len(load(path, limit=2)) == 2
    with pytest.raises(DataError, match="limit is 1 or more"):
        load(path, limit=0)


def test_bad_rows_stop_the_load_with_the_first_20_and_the_total(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(5), *[{"question": "q"}] * 25)
    with pytest.raises(DataError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "25 of 30 rows are bad; nothing was done"
    assert f"{path}:6: answer: " in lines[1]
    assert f"{path}:25: answer: " in lines[20]
    assert lines[21].strip() == "... and 5 more"


def test_bad_rows_are_told_without_keeping_the_good_ones(tmp_path: Path) -> None:
    """The same message; 4,000 rows of a kilobyte take less than a quarter of their 4 MB."""
    rows = [{"question": f"q{n} " + "x" * 1000, "answer": "a"} for n in range(4000)]
    path = rows_file(tmp_path / "many.jsonl", *rows, {"question": "", "answer": "a"}, {"answer": "a"})
    with pytest.raises(DataError) as kept:
        load(path, purpose="prompts")
    tracemalloc.start()
    with pytest.raises(DataError) as told:
        refuse_bad_rows(path, purpose="prompts")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(told.value) == str(kept.value)
    assert str(told.value).startswith("2 of 4002 rows are bad")
    assert peak < 1e6
    refuse_bad_rows(rows_file(tmp_path / "good.jsonl", *qa(2)))


def test_quarantine_writes_bad_rows_and_goes_on(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(2), {"question": "q", "answer": ""})
    with Path(path).open("a") as handle:
        handle.write("{oops\n")
    errors = tmp_path / "out" / "errors.jsonl"
    dataset = load(path, on_bad_row="quarantine", errors_path=errors)
    assert (len(dataset), dataset.bad_rows) == (2, 2)
    empty, broken = (json.loads(line) for line in errors.read_text().splitlines())
    assert empty == {
        "file": path,
        "line": 3,
        "field": "answer",
        "error": "the answer is empty",
        "row": {"question": "q", "answer": ""},
    }
    assert (broken["line"], broken["row"]) == (4, "{oops")


def test_quarantine_with_nothing_left_stops(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"question": "q"})
    with pytest.raises(DataError, match="no answer to train on"):
        load(path, on_bad_row="quarantine", errors_path=tmp_path / "errors.jsonl")


def test_another_answer_to_bad_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'quarantine'"):
        load(rows_file(tmp_path / "a.jsonl", *qa(1)), on_bad_row="quarantin")  # type: ignore[arg-type]


def test_sft_and_preference_rows_in_one_file_are_refused_even_in_quarantine(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(1), PAIR)
    with pytest.raises(DataError, match=r"a\.jsonl:2: rows of different kinds are mixed"):
        load(path, on_bad_row="quarantine", errors_path=tmp_path / "errors.jsonl")


def test_sft_and_preference_files_together_are_refused(tmp_path: Path) -> None:
    paths = [rows_file(tmp_path / "a.jsonl", *qa(1)), rows_file(tmp_path / "b.jsonl", PAIR)]
    with pytest.raises(DataError, match=r"a\.jsonl is sft, .*b\.jsonl is preference"):
        load(paths)


def test_two_sft_formats_in_one_file_are_refused_and_in_two_are_fine(tmp_path: Path) -> None:
    alpaca = {"instruction": "q", "output": "a"}
    with pytest.raises(DataError, match="this row is alpaca, the rows before it are question_answer"):
        load(rows_file(tmp_path / "a.jsonl", *qa(1), alpaca))
    paths = [rows_file(tmp_path / "b.jsonl", *qa(1)), rows_file(tmp_path / "c.jsonl", alpaca)]
    assert load(paths).format == "question_answer, alpaca"


def test_kind_refuses_the_other_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="preference rows are expected; question_answer holds sft rows"):
        load(rows_file(tmp_path / "a.jsonl", *qa(1)), kind="preference")


def test_a_named_format_is_held_to(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"prompt": "p", **qa(1)[0]})
    with pytest.raises(DataError, match="fit prompt_completion and question_answer"):
        load(path)
    assert load(path, format="question_answer").conversations[0].messages[0].content == "q1"
    with pytest.raises(UnknownName, match="there are: alpaca"):
        load(path, format="nonsense")


@pytest.mark.parametrize(
    "row",
    [
        "Hi",
        {"prompt": "Hi"},
        {"instruction": "Hi"},
        {"question": "Hi"},
        {"question": "Hi", "answer": "Hello"},
        {"conversations": [{"from": "human", "value": "Hi"}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"prompt": "Hi", "chosen": "a", "rejected": "b"},
    ],
)
def test_prompts_are_what_asks(tmp_path: Path, row: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps([row]))
    (record,) = load(tmp_path / "a.json", purpose="prompts").conversations
    assert [(m.role, m.content) for m in record.messages] == [("user", "Hi")]


def test_check_reports_instead_of_raising(tmp_path: Path) -> None:
    report = check(rows_file(tmp_path / "a.jsonl", *qa(3), {"question": "q"}))
    assert (report.rows, report.bad_rows, report.kind, report.format) == (4, 1, "sft", "question_answer")
    assert report.problems[0].line == 4


@pytest.mark.parametrize("name", ["o.json", "o.jsonl", "o.jsonl.gz", "o.csv", "o.parquet"])
@pytest.mark.parametrize("to", ["messages", "sharegpt", "alpaca"])
def test_convert_keeps_the_conversations(tmp_path: Path, name: str, to: str) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(1100))
    assert convert(path, to, tmp_path / name).rows == 1100
    before, after = load(path), load(tmp_path / name)
    assert after.format == to
    assert [(r.id, r.messages) for r in after.conversations] == [
        (r.id, r.messages) for r in before.conversations
    ]


def test_convert_does_not_overwrite_without_force(tmp_path: Path) -> None:
    path, output = rows_file(tmp_path / "a.jsonl", *qa(1)), tmp_path / "o.jsonl"
    output.write_text("mine")
    with pytest.raises(DataError, match="give --force"):
        convert(path, "messages", output)
    assert output.read_text() == "mine"
    convert(path, "messages", output, force=True)
    assert json.loads(output.read_text())["messages"][0] == {"role": "user", "content": "q1"}


def test_convert_writes_nothing_when_a_row_is_bad(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", *qa(1), {"question": "q"})
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        convert(path, "messages", tmp_path / "o.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_convert_refuses_rows_that_do_not_fit(tmp_path: Path) -> None:
    turns = [{"from": f, "value": v} for f, v in (("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))]
    path = rows_file(tmp_path / "a.jsonl", {"conversations": turns})
    with pytest.raises(DataError, match=r"a\.jsonl:1: question_answer holds one question"):
        convert(path, "question_answer", tmp_path / "o.jsonl")
    with pytest.raises(DataError, match="preference rows are expected"):
        convert(path, "trl", tmp_path / "o.jsonl")


def test_pairs_are_taken_apart_where_single_answers_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"id": "a", "prompt": "2+3?", "chosen": "5", "rejected": "6"}\n')
    good, bad = load(path, kind="unpaired").records
    assert isinstance(good, LabelledAnswer) and isinstance(bad, LabelledAnswer)
    assert (good.id, good.completion[0].content, good.label) == ("a:chosen", "5", True)
    assert (bad.id, bad.completion[0].content, bad.label) == ("a:rejected", "6", False)
