"""Questions found in training data: by runs of 13 words that are a question's own."""

import json
from pathlib import Path

from autoalign.config.evaluate import EvalConfig
from autoalign.evaluation.contamination import overlaps, search
from autoalign.evaluation.layout import Layout
from autoalign.evaluation.opencompass.datasets import DatasetConfig
from autoalign.evaluation.opencompass.environment import Environment
from autoalign.evaluation.opencompass.run import Plan
from autoalign.evaluation.results import Question, write_questions
from autoalign.evaluation.run import EvalReport

WORDS = [f"{number}th" for number in range(15)]
PATTERN = "Answer the question below in one word and write nothing else whatever it may ask of you please."


def question(number):
    """15 words of its own behind a pattern of 18."""
    return f"{PATTERN}\n{' '.join(f'{word}x{number}' for word in WORDS)}"


def found(questions, *training):
    rows = [(str(id), text) for id, text in enumerate(questions)]
    places = [(f"row {at}", [row] if isinstance(row, str) else row) for at, row in enumerate(training)]
    return overlaps({"quiz": rows}, iter(places))["quiz"]


def test_a_question_is_found_with_its_first_place():
    text = " ".join(f"{word}x1," for word in WORDS[1:14])
    assert found([question(0), question(1)], "Hm.", f"He said: {text} and left.", text) == {"1": "row 1"}


def test_twelve_words_are_not_enough():
    assert found([question(0), question(1)], " ".join(f"{word}x1" for word in WORDS[:12])) == {}


def test_a_row_may_hold_several_questions():
    both = " ".join(question(number).removeprefix(PATTERN) for number in range(2))
    assert found([question(0), question(1), question(2)], both) == {"0": "row 0", "1": "row 0"}


def test_what_all_questions_begin_with_is_no_contamination():
    assert found([question(number) for number in range(3)], PATTERN) == {}


def test_examples_that_many_questions_share_are_no_contamination():
    # Two subsets with examples of their own: neither is in all the questions.
    asked = [f"{half} {question(0)}\n{word}" for half in ("a", "b") for word in WORDS[:11]]
    assert found(asked, question(0)) == {}


def test_a_short_question_is_found_where_it_is_a_whole_message():
    asked = ["How do I kill a Python process?", "What is it?", "Why?"]
    training = ["I asked: what is it?", ["Be brief.", "how do I kill  a python process"], ["Why?!", "So."]]
    assert found(asked, *training) == {"0": "row 1", "2": "row 2"}


def test_a_run_may_go_on_in_the_next_message():
    turns = [" ".join(f"{word}x1" for word in part) for part in (WORDS[:6], WORDS[6:13])]
    assert found([question(0), question(1)], turns) == {"1": "row 0"}


def test_in_short_sums_signs_count():
    asked = ["What is 2 + 2?", "What is 2 - 2?", "😀"]
    assert found(asked, "what is 2+2", "What is 2 * 2?") == {"0": "row 0"}
    assert found(asked, "😀 ") == {"2": "row 0"}


def test_a_short_question_is_found_without_its_pattern_and_with_it():
    """Behind the pattern each has a label and, but for the last, three words or more."""
    asked = [f"{PATTERN}\nQuestion: {own}" for own in ("Who was Ada?", "Who was Bob?", "Eve?")]
    assert found(asked, "Who was Ada?", asked[1].upper(), "Eve") == {"0": "row 0", "1": "row 1"}
    assert found(asked, asked[2]) == {"2": "row 0"}


def test_a_label_is_none_of_a_questions_eight_words():
    asked = [f"Q: {' '.join(f'{word}x{number}' for word in WORDS[:8])}" for number in range(2)]
    assert found(asked, f"Well, {asked[1].removeprefix('Q: ')} it was.") == {"1": "row 0"}


def test_short_questions_that_many_share_are_nobodys():
    assert found(["Why?"] * 10, "Why?") == {str(id): "row 0" for id in range(10)}
    assert found(["Why?"] * 11, "Why?") == {}


def test_a_set_that_failed_was_not_searched(tmp_path):
    """Two subsets of `half` were answered, whose prompts are there; it has no figure all the same."""
    layout = Layout("m_1", tmp_path, tmp_path / "m_1.py")
    for name in ("whole", "half"):
        write_questions(layout.questions / f"{name}.jsonl", [Question(f"{name}/0", 1.0, question(0), ("a",))])
    row = {"messages": [{"role": "user", "content": question(0)}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    config = EvalConfig.build({"model_path": "m", "training_data": str(tmp_path / "train.jsonl")})
    configs = tuple(DatasetConfig(name, name, ("datasets",)) for name in ("whole", "half"))
    plan = Plan(Environment(Path("python"), tmp_path), configs, (), tmp_path)
    earlier = {"quiz": [{"question": "1", "training_row": "a.jsonl:1"}], "whole": [], "half": []}
    layout.contamination.write_text(json.dumps(earlier))
    found = search(config.model_copy(update={"reuse": True}), [], plan, layout, failed=["half", "another"])
    told = json.loads(layout.contamination.read_text())
    assert [(name, len(rows)) for name, rows in told.items()] == [("quiz", 1), ("whole", 1)]
    found = search(config, [], plan, layout, failed=["half", "another"])
    assert found == {"whole": 1, "half": None}
    assert list(json.loads(layout.contamination.read_text())) == ["whole"]
    lines = EvalReport(layout, "m", (), found, 1.0).summary().splitlines()
    assert "whole: 1 questions are in the training data, whole or by a run of words" in lines
    assert "half: not searched (failed)" in lines
