"""An evaluation whose endpoint dies in the middle, and one that is done twice."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from autoalign.cli.main import main
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import MissingDependency
from autoalign.evaluation import run
from autoalign.evaluation.answering import Answering
from autoalign.evaluation.layout import layout_of
from autoalign.evaluation.opencompass.datasets import DatasetConfig
from autoalign.evaluation.opencompass.environment import Environment
from autoalign.evaluation.opencompass.outcome import Collected
from autoalign.evaluation.opencompass.run import Plan
from autoalign.evaluation.results import Result
from tests.unit.chat_tokenizers import byte_level

ROWS = 12
QUIZ = "name: quiz\nfile: quiz.jsonl\nscorer: numeric\nmax_new_tokens: 8\n"


class Pupil(BaseHTTPRequestHandler):
    """Answers `left` questions with 1, and then no more."""

    left = 10**6
    asked: list[str] = []  # noqa: RUF012
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if Pupil.left <= 0:
            self.send_error(503)
            return
        Pupil.left -= 1
        Pupil.asked.append(body["messages"][-1]["content"])
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "It is 1."},
        }
        content = json.dumps(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def evaluate(tmp_path):
    """Runs the command on a quiz, half of whose answers are 1; gives its exit code."""
    rows = [{"question": f"question {place}", "answer": place % 2} for place in range(ROWS)]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "quiz.yaml").write_text(QUIZ)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pupil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Pupil.left, Pupil.asked = 10**6, []

    def command(*flags):
        words = ["--endpoint", f"http://127.0.0.1:{server.server_port}/v1", "--model_path", "pupil"]
        words += ["--benchmarks", str(tmp_path / "quiz.yaml"), "--output_dir", str(tmp_path / "out")]
        words += ["--model_id", "pupil_1", "--max_retries", "0", "--batch_size", "2"]
        return main(["eval", *words, *flags])

    yield command
    server.shutdown()


def table(tmp_path):
    header, row = csv.reader((tmp_path / "out" / "pupil_1" / "ordered_res.csv").open())
    return dict(zip(header, row, strict=True))


def test_an_endpoint_that_dies_keeps_what_it_said_and_reuse_asks_for_the_rest(tmp_path, evaluate):
    Pupil.left = 5
    assert evaluate() == 1
    assert table(tmp_path)["quiz"].startswith(
        "failed: 7 of 12 answers can't be had: the endpoint answered 503"
    )
    Pupil.left, Pupil.asked = 10**6, []
    assert evaluate("--reuse") == 0
    assert len(Pupil.asked) == 7
    assert table(tmp_path)["quiz"].startswith("50.00 [")


def test_the_same_evaluation_twice_is_the_same(tmp_path, evaluate):
    assert evaluate() == 0
    questions = tmp_path / "out" / "pupil_1" / "questions" / "quiz.jsonl"
    first = questions.read_bytes(), table(tmp_path)
    assert evaluate("--force") == 0
    assert (questions.read_bytes(), table(tmp_path)) == first


def test_what_is_there_is_refused_and_a_finished_evaluation_asks_nothing(tmp_path, evaluate, capsys):
    assert evaluate() == 0
    assert evaluate() == 2
    assert "ordered_res.csv" in capsys.readouterr().err
    Pupil.asked = []
    assert evaluate("--reuse") == 0
    assert Pupil.asked == []


@pytest.mark.parametrize(
    ("file", "content", "figure"),
    [
        # All the answers are 1, of which half of the questions had another reference before.
        (
            "quiz.jsonl",
            "".join(f'{{"question": "question {n}", "answer": 1}}\n' for n in range(ROWS)),
            "100.00",
        ),
        ("quiz.yaml", QUIZ.replace("numeric", "regex\noptions: {pattern: It is 2}"), "0.00"),
    ],
)
def test_a_benchmark_that_was_changed_is_scored_anew_from_the_same_answers(
    tmp_path, evaluate, file, content, figure
):
    assert evaluate() == 0
    (tmp_path / file).write_text(content)
    Pupil.asked = []
    assert evaluate("--reuse") == 0
    assert table(tmp_path)["quiz"].startswith(f"{figure} [")
    assert Pupil.asked == []


def test_a_prompt_that_was_changed_is_asked_anew(tmp_path, evaluate):
    assert evaluate() == 0
    (tmp_path / "quiz.yaml").write_text(QUIZ + 'prompt: "{{ question }}?"\n')
    Pupil.asked = []
    assert evaluate("--reuse") == 0
    assert sorted(Pupil.asked) == sorted(f"question {place}?" for place in range(ROWS))


def test_reuse_with_another_benchmark_keeps_the_first(tmp_path, evaluate):
    assert evaluate() == 0
    first = table(tmp_path)["quiz"]
    (tmp_path / "other.yaml").write_text(
        "name: other\nscorer: numeric\nquestions: [{question: 1, answer: 1}]\n"
    )
    assert evaluate("--benchmarks", str(tmp_path / "other.yaml"), "--reuse") == 0
    told = table(tmp_path)
    assert (list(told), told["quiz"]) == (["model", "quiz", "other"], first)
    assert told["other"].startswith("100.00 [")
    folder = tmp_path / "out" / "pupil_1"
    assert [each["benchmark"] for each in json.loads((folder / "results.json").read_text())] == [
        "quiz",
        "other",
    ]
    assert list(json.loads((folder / "eval.json").read_text())["data"]) == ["quiz", "other"]


def refused(tmp_path, command):
    """Exit code and message of the command where an evaluation is there already."""
    (tmp_path / "out" / "m_1").mkdir(parents=True)
    (tmp_path / "out" / "m_1" / "ordered_res.csv").write_text("old")
    words = ["--model_path", "m", "--endpoint", "http://127.0.0.1:9/v1", "--model_id", "m_1"]
    words += ["--output_dir", str(tmp_path / "out"), "--benchmarks", str(tmp_path / "quiz.yaml")]
    (tmp_path / "quiz.yaml").write_text("name: quiz\nquestions: [{question: 1, answer: 1}]\n")
    shell = [*command, sys.executable, "-m", "autoalign.cli", "eval", *words]
    main, terminal = os.openpty()
    os.write(main, b"n\n")
    done = subprocess.run(shell, stdin=terminal, capture_output=True, text=True, timeout=60, check=False)
    os.close(main)
    os.close(terminal)
    assert (tmp_path / "out" / "m_1" / "ordered_res.csv").read_text() == "old"
    return done.returncode, done.stdout + done.stderr


def test_a_terminal_is_asked(tmp_path):
    code, said = refused(tmp_path, [])
    assert (code, "Continue, and overwrite them? [y/N]" in said) == (2, True)


def test_a_closed_stdin_is_not_waited_for(tmp_path):
    code, said = refused(tmp_path, ["sh", "-c", 'exec "$@" <&-', "sh"])
    assert (code, "give --force to overwrite them, or --reuse to go on" in said) == (2, True)


def test_training_data_is_looked_for_before_anything_starts(tmp_path, evaluate, capsys):
    assert evaluate("--training_data", str(tmp_path / "nowhere.jsonl")) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
    assert Pupil.asked == []


def test_a_wrong_row_of_training_data_leaves_the_table(tmp_path, evaluate, capsys):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(good) + "\n" + "{torn\n")
    assert evaluate("--training_data", str(tmp_path / "train.jsonl")) == 2
    assert "train.jsonl:2" in capsys.readouterr().err
    assert table(tmp_path)["quiz"].startswith("50.00 [")


def test_training_data_that_holds_a_question_is_found(tmp_path, evaluate, capsys):
    question = "How many of the thirteen grey geese flew over the old barn on Tuesday morning in May?"
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"question": question, "answer": 1}) + "\n")
    seen = [{"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "One."}]}]
    seen += [{"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seen))
    assert evaluate("--training_data", str(tmp_path / "train.jsonl")) == 0
    assert "quiz: 1 questions are in the training data, whole or by a run of words" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "pupil_1" / "contamination.json").read_text())
    assert told["quiz"][0]["training_row"].endswith("train.jsonl:1")


MINE = """\
from autoalign.evaluation.ask import Ask, Scored
def read(path):
    yield Ask("1", ("question 1",))
def score(answered, tools):
    {}
"""


def results_of(tmp_path):
    """Each benchmark's figure or error, of results.json."""
    rows = json.loads((tmp_path / "out" / "pupil_1" / "results.json").read_text())
    return {row["benchmark"]: row["error"] or row["value"] for row in rows}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 0.5", "score() gives float; Scored(results, questions) is expected"),
        ("pass", "score() gives nothing; Scored(results, questions) is expected"),
        ("return answered[1]", "mine.py:5: IndexError"),
    ],
)
def test_a_fault_in_one_benchmark_is_its_own_cell(tmp_path, evaluate, body, said):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE.format(body))
    assert evaluate("--benchmarks", str(mine), str(tmp_path / "quiz.yaml")) == 1
    assert said in table(tmp_path)["mine"]
    assert table(tmp_path)["quiz"].startswith("50.00 [")
    assert said in results_of(tmp_path)["mine"]
    assert results_of(tmp_path)["quiz"] == 50.0


def test_what_nobody_expected_is_its_benchmarks_cell_too(tmp_path, evaluate, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError("by\nzero")

    (tmp_path / "mine.py").write_text(MINE.format("return answered[1]"))
    monkeypatch.setattr(Answering, "answer", broken)
    assert evaluate("--benchmarks", str(tmp_path / "quiz.yaml"), str(tmp_path / "mine.py")) == 1
    assert results_of(tmp_path) == dict.fromkeys(("quiz", "mine"), "ZeroDivisionError: by zero")
    assert "in broken" in capsys.readouterr().err


def test_opencompass_that_breaks_leaves_our_own_benchmarks(tmp_path, monkeypatch):
    class Broken:
        """Of two sets one is collected."""

        log, start_seconds = tmp_path, 0.0

        def __init__(self, *_):
            pass

        def is_open(self):
            return False

        def collect(self):
            yield Collected(Result("a_gen", "accuracy", 4, 25.0))
            raise KeyError("b")

    monkeypatch.setattr(run, "Run", Broken)
    keys = {"model_path": "m", "output_dir": str(tmp_path), "model_id": "m_1"}
    config = EvalConfig.build(keys)
    configs = (DatasetConfig("a_gen", "a", ()), DatasetConfig("b_gen", "b", ()))
    plan = Plan(Environment(tmp_path, tmp_path), configs, (), tmp_path)
    job = run._Job(config, layout_of(config), [], plan, None, None, 0.0)
    told = {each.benchmark: each.error or each.value for each in job._objective(None, None)}
    assert told == {"a_gen": 25.0, "b_gen": "KeyError: 'b'"}


@pytest.fixture
def model(tmp_path):
    """A folder with a tokenizer, and weights that nobody reads."""
    folder = tmp_path / "model"
    byte_level(adds_bos=False).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def forced(tmp_path, model, *flags):
    """The exit code of `--force` where an evaluation is there already, whose table has to stay."""
    (tmp_path / "out" / "m_1" / "answers").mkdir(parents=True)
    old = [tmp_path / "out" / "m_1" / name for name in ("ordered_res.csv", "answers/quiz.jsonl")]
    for file in old:
        file.write_text("old")
    (tmp_path / "quiz.yaml").write_text("name: quiz\nquestions: [{question: 1, answer: 1}]\n")
    words = [
        "--model_path",
        str(model),
        "--model_id",
        "m_1",
        "--output_dir",
        str(tmp_path / "out"),
        "--force",
    ]
    code = main(["eval", *words, "--benchmarks", str(tmp_path / "quiz.yaml"), *flags])
    assert [file.read_text() for file in old] == ["old", "old"]
    return code


def test_a_template_that_is_not_there_throws_nothing_away(tmp_path, model, capsys):
    assert forced(tmp_path, model, "--backend", "hf", "--template_name", "typo") == 2
    assert "no chat template is named 'typo'" in capsys.readouterr().err


def test_code_that_may_not_run_throws_nothing_away(tmp_path, model, capsys):
    (model / "config.json").write_text('{"auto_map": {}}')
    assert forced(tmp_path, model, "--backend", "hf") == 2
    assert "--trust_remote_code runs it" in capsys.readouterr().err


def test_a_server_that_cannot_be_started_throws_nothing_away(tmp_path, model, monkeypatch, capsys):
    def missing():
        raise MissingDependency("backend vllm needs vLLM")

    monkeypatch.setattr(run, "require_vllm", missing)
    assert forced(tmp_path, model) == 2
    assert "backend vllm needs vLLM" in capsys.readouterr().err


def test_a_path_for_no_shell_throws_nothing_away(tmp_path, model, monkeypatch, capsys):
    plan = Plan(Environment(Path("/my env/python"), tmp_path), (), (), tmp_path)
    monkeypatch.setattr(Plan, "of", lambda _: plan)
    assert forced(tmp_path, model, "--backend", "hf", "--datasets", "gsm8k_gen") == 2
    assert "/my env/python: OpenCompass starts its tasks through a shell" in capsys.readouterr().err
