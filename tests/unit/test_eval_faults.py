"""An evaluation whose endpoint dies in the middle, and one that is done twice."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from autoalign.cli.main import main

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

    def run(*flags):
        words = ["--endpoint", f"http://127.0.0.1:{server.server_port}/v1", "--model_path", "pupil"]
        words += ["--benchmarks", str(tmp_path / "quiz.yaml"), "--output_dir", str(tmp_path / "out")]
        words += ["--model_id", "pupil_1", "--max_retries", "0", "--batch_size", "2"]
        return main(["eval", *words, *flags])

    yield run
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
    assert "quiz: 1 questions share a run of words with the training data" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "pupil_1" / "contamination.json").read_text())
    assert told["quiz"][0]["training_row"].endswith("train.jsonl:1")
