"""OpenAI's batches: rows checked, a job for them, the files that come out."""

import contextlib
import json

import pytest

from autoalign import formats
from autoalign.batching.requests import Problem, parse, problems
from autoalign.batching.results import BatchFiles, Unanswered, gather
from autoalign.batching.run import _write_prompts, run
from autoalign.config.batch import BatchConfig
from autoalign.sampling.progress import Settled


def row(custom_id="a", **body):
    body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def write(path, rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def config(tmp_path, **values):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return BatchConfig(
        backend="fake",
        model_path="base",
        input_file=str(tmp_path / "in.jsonl"),
        output_file=str(out / "answers.jsonl"),
        error_file=str(out / "errors.jsonl"),
        **values,
    )


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"custom_id": ""}, "custom_id"),
        ({"method": "GET"}, "method"),
        ({"url": "/v1/embeddings"}, "url"),
        ({"body": {"model": "m", "messages": []}}, "body.messages"),
        ({"body": {**row()["body"], "model": "a\0b"}}, "body.model"),
        ({"body": {**row()["body"], "stream": True}}, "body.stream"),
        ({"body": {**row()["body"], "tools": []}}, "body.tools"),
        ({"body": {**row()["body"], "temperature": 3}}, "body.temperature"),
    ],
)
def test_a_wrong_row_names_its_parameter(changes, param):
    found = parse(4, json.dumps({**row(), **changes}).encode())
    assert isinstance(found, Problem)
    assert (found.line, found.param) == (4, param)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row("a"), row("a")], "duplicate_custom_id"),
        ([row("a"), row("b", model="other")], "mismatched_model"),
        ([row(str(number)) for number in range(4)], "too_many_requests"),
        ([row(str(number), seed=number) for number in range(3)], None),
    ],
)
def test_a_file_is_looked_at_as_a_whole(tmp_path, rows, code):
    found, _, model = problems(write(tmp_path / "in.jsonl", rows), most_rows=3)
    assert [each.code for each in found] == ([code] if code else [])
    assert model == "base"


def test_requests_of_the_same_settings_are_answered_together(tmp_path):
    source = write(tmp_path / "in.jsonl", [row("a"), row("b", temperature=0.5), row("c")])
    groups = _write_prompts(source, tmp_path).groups
    assert sorted(settings.temperature for settings in groups.values()) == [0.5, 1.0]
    usual = next(name for name, settings in groups.items() if settings.temperature == 1.0)
    ids = [json.loads(line)["id"] for line in (tmp_path / usual / "prompts.jsonl").open()]
    assert ids == ["1", "3"]


ANSWER = {"prompt_tokens": 5, "completion_tokens": 3, "finish_reason": "stop"}


def begun(tmp_path, rows):
    """A batch whose prompts are written; its files, and the folders of its settings."""
    out = tmp_path / "out"
    files = BatchFiles(write(tmp_path / "in.jsonl", rows), out / "answers.jsonl", out / "errors.jsonl")
    files.settings.mkdir(parents=True)
    return files, [files.settings / name for name in _write_prompts(files.requests, files.settings).groups]


def test_answers_go_out_as_chat_completions_in_order(tmp_path):
    from openai.types.chat import ChatCompletion

    files, (folder,) = begun(tmp_path, [row("a", n=2), row("b", n=2)])
    rows = [{**ANSWER, "prompt_id": "2", "index": index, "text": f"text {index}"} for index in (1, 0)]
    write(folder / "answers.jsonl", rows)
    write(folder / "errors.jsonl", [{"prompt_id": "1", "error": "too long"}])
    report = gather(files)
    assert (report.total, report.completed, report.failed) == (2, 1, 1)
    assert (report.input_tokens, report.output_tokens) == (5, 6)
    done = json.loads(files.output.read_text())
    completion = ChatCompletion.model_validate(done["response"]["body"])
    assert done["custom_id"] == "b"
    assert [choice.message.content for choice in completion.choices] == ["text 0", "text 1"]
    assert completion.usage.total_tokens == 11
    refused = json.loads(files.errors.read_text())
    assert (refused["custom_id"], refused["response"]["body"]["error"]["message"]) == ("a", "too long")


def test_a_batch_that_was_ended_gives_what_it_has_answered(tmp_path):
    """Settings of seed 1 are done, but for a request that was too long; those of seed 2 were begun: of two
    answers to `c` one is there, `d` has both, and the job was killed as it wrote one to `e`."""
    rows = [row("a", seed=1), row("b", seed=1), *(row(name, seed=2, n=2) for name in "cde")]
    files, (done, half) = begun(tmp_path, rows)
    write(done / "answers.jsonl", [{**ANSWER, "prompt_id": "1", "index": 0, "text": "one"}])
    write(done / "errors.jsonl", [{"prompt_id": "2", "error": "too long"}])
    places = [("3", 1), ("4", 1), ("4", 0)]
    rows = [{**ANSWER, "prompt_id": prompt, "index": index, "text": "two"} for prompt, index in places]
    write(half / "answers.jsonl.partial", rows)
    with (half / "answers.jsonl.partial").open("a") as file:
        file.write('{"prompt_id": "5", "ind')
    report = gather(files, Unanswered("batch_cancelled", "it was cancelled"))
    assert (report.total, report.completed, report.failed) == (5, 2, 3)
    assert (report.input_tokens, report.output_tokens) == (5 + 5, 3 + 2 * 3)
    assert [json.loads(line)["custom_id"] for line in files.output.open()] == ["a", "d"]
    errors = [json.loads(line) for line in files.errors.open()]
    never = {"code": "batch_cancelled", "message": "it was cancelled"}
    assert [(each["custom_id"], each["error"]) for each in errors] == [
        ("b", {"code": "invalid_request", "message": "too long"}),
        ("c", never),
        ("e", never),
    ]
    assert [each["response"] is None for each in errors] == [False, True, True]


def test_a_file_without_a_good_row_starts_no_engine(tmp_path):
    (tmp_path / "in.jsonl").write_text("[]\n")
    assert run(config(tmp_path)).failed == 1


def test_names_of_settings_differ():
    first, second = (
        parse(1, json.dumps(row(stop=stop)).encode()).body.settings().name for stop in (["a", "b"], ["ab"])
    )
    assert first != second


def test_a_sampling_job_answers_the_requests_of_each_setting(tmp_path, monkeypatch):
    asked, counted = [], []
    monkeypatch.setattr("autoalign.batching.counts._EVERY", 0.0)

    def sample(infer, watch):
        asked.append(infer)
        records = formats.iter_records(infer.test_file, purpose="prompts")
        answer = {"index": 0, "prompt_tokens": 1, "completion_tokens": 1, "finish_reason": "stop"}
        rows = [{**answer, "prompt_id": each.id, "text": each.messages[0].content} for each in records]
        watch(Settled(len(rows), 0))
        counted.append(json.loads((tmp_path / "out" / "counts.json").read_text())["completed"])
        write(infer.output_path, rows)

    monkeypatch.setattr("autoalign.sampling.run.run", sample)
    monkeypatch.setattr("autoalign.batching.run.ray_session", lambda *_: contextlib.nullcontext())
    write(tmp_path / "in.jsonl", [row("a", stop="\n", max_tokens=3), row("b"), row("c", seed=5)])
    report = run(config(tmp_path))
    assert (report.total, report.completed, report.failed) == (3, 3, 0)
    found = {(each.max_new_tokens, each.seed, tuple(each.stop)) for each in asked}
    assert found == {(3, 42, ("\n",)), (1024, 42, ()), (1024, 5, ())}
    ids = [json.loads(line)["custom_id"] for line in (tmp_path / "out" / "answers.jsonl").open()]
    assert ids == ["a", "b", "c"]
    assert counted == [1, 2, 3]  # while it runs
    run(config(tmp_path))  # again, as after a restart: what is done is kept
    assert len(asked) == 3
