"""What each verifier says of single answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autoalign.config.score import ScoreConfig
from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError, UnknownName
from autoalign.records import Conversation, Message
from autoalign.scoring.scorer import Job, Outcome, Score, Unscorable, build


def judged(name: str, text: str, row: Mapping[str, Any] | None = None, **options: Any) -> Outcome:
    """The outcome of one answer to "Question?"."""
    values = {"scorer": [name], "data_path": ["x"], "output_file": "y", **options}
    scorer = build(Job(ScoreConfig.build(values), Path("y")))[name]
    messages = (Message("user", "Question?"), Message("assistant", text))
    (outcome,) = scorer.score([Answer(Conversation("a", messages), 1, row or {})])
    return outcome


def value(outcome: Outcome) -> float:
    assert isinstance(outcome, Score), outcome
    return outcome.value


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"reference": 18}, 1),
        ({"reference": "9 * 2 = 18\n#### 18"}, 1),
        ({"extra": {"reference": "#### 18"}}, 1),
        ({"extra": {"answer": "17"}}, 0),
    ],
)
def test_numeric_finds_the_reference_in_its_usual_places(row, right):
    assert value(judged("numeric", "She makes $18.", row)) == right


def test_numeric_tells_what_it_compared():
    assert judged("numeric", "1/2", {"reference": "0.25"}) == Score(0.0, {"found": "1/2", "expected": "1/4"})


def test_numeric_reads_the_named_key():
    row = {"reference": 1, "gold": {"value": "2"}}
    assert value(judged("numeric", "2", row, reference_key="gold.value")) == 1


@pytest.mark.parametrize(("row", "reason"), [({}, "no reference"), ({"reference": "x"}, "holds no number")])
def test_numeric_without_a_usable_reference_gives_no_score(row, reason):
    outcome = judged("numeric", "2", row)
    assert isinstance(outcome, Unscorable)
    assert reason in outcome.reason


def test_regex_searches_anywhere():
    assert judged("regex", "so: ABC-12!", pattern=r"[A-Z]+-\d+") == Score(1.0, {"match": "ABC-12"})
    assert value(judged("regex", "so: abc", pattern=r"[A-Z]+-\d+")) == 0


def test_a_pattern_that_takes_for_ever_is_given_up():
    outcome = judged("regex", "a" * 40 + "b", pattern=r"(a|aa)+$", timeout=0.05)
    assert outcome == Unscorable("the pattern took more than 0.05 s")


@pytest.mark.parametrize("options", [{}, {"pattern": "("}])
def test_regex_needs_a_pattern(options):
    with pytest.raises(ConfigError, match="pattern"):
        judged("regex", "x", **options)


@pytest.fixture
def schema(tmp_path: Path) -> str:
    file = tmp_path / "schema.json"
    file.write_text(
        json.dumps({"type": "object", "required": ["age"], "properties": {"age": {"minimum": 0}}})
    )
    return str(file)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"age": 3}', 1),
        ('Here it is:\n```json\n{"age": 3}\n```', 1),
        ('{"age": -1}', 0),
        ("{}", 0),
        ('{"age": 3', 0),
        ("[" * 100_000, 0),
    ],
)
def test_json_schema(schema, text, right):
    assert value(judged("json_schema", text, schema_file=schema)) == right


def test_json_schema_tells_the_violation(schema):
    outcome = judged("json_schema", "{}", schema_file=schema)
    assert outcome == Score(0.0, {"error": "$: 'age' is a required property"})


def test_a_remote_reference_is_not_fetched(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text('{"$ref": "http://localhost:9/schema.json"}')
    with pytest.raises(ConfigError, match="nothing is at"):
        judged("json_schema", "{}", schema_file=str(file))


@pytest.mark.parametrize(("unit", "length"), [("characters", 12), ("words", 3)])
def test_length_is_the_score_itself(unit, length):
    assert judged("length", "one two  six", unit=unit) == Score(length)


@pytest.mark.parametrize(
    ("bounds", "right"), [({"shortest": 3}, 1), ({"longest": 2}, 0), ({"shortest": 4}, 0)]
)
def test_length_with_bounds_is_right_or_wrong(bounds, right):
    assert judged("length", "one two six", unit="words", **bounds) == Score(right, {"words": 3})


def test_length_in_tokens_needs_a_tokenizer():
    with pytest.raises(ConfigError, match="--tokenizer"):
        judged("length", "x", unit="tokens")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "Sorry, I cannot provide that.",
        "As an AI language model, I cannot give medical advice.",
        "I must decline this request.",
        "抱歉，我无法提供这方面的帮助。",
        "对不起，我不能回答这个问题。",
        "作为一个人工智能语言模型，我无法浏览网页。",
    ],
)
def test_a_refusal_is_seen(text):
    assert value(judged("refusal", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Paris is the capital of France.",
        "I can help with that. First, open the file.",
        "You can't divide by zero, so the answer is undefined.",
        "She said she was sorry for the delay.",
        "当然可以，我来帮您写一封道歉信。",
        "这个方法无法处理空列表，所以要先检查。",
    ],
)
def test_an_answer_is_no_refusal(text):
    assert value(judged("refusal", text)) == 0


def test_rules_of_ones_own(tmp_path):
    rules = tmp_path / "rules.txt"
    rules.write_text("# ours\n^nope\\b\n")
    assert judged("refusal", "Nope, not me.", refusal_rules=[str(rules)]) == Score(1.0, {"rule": "^nope\\b"})
    assert value(judged("refusal", "I'm sorry, but I can't help with that.", refusal_rules=[str(rules)])) == 0


def test_a_broken_rule_is_named_with_its_line(tmp_path):
    rules = tmp_path / "rules.txt"
    rules.write_text("fine\n(\n")
    with pytest.raises(ConfigError, match=r"rules.txt:2: no regular expression"):
        judged("refusal", "x", refusal_rules=[str(rules)])


def test_an_unknown_scorer_names_the_others():
    with pytest.raises(UnknownName, match="did you mean 'numeric'"):
        judged("numerc", "x")


def test_an_option_of_another_scorer_is_refused():
    with pytest.raises(ConfigError, match="'pattern' is no option of the scorers numeric"):
        judged("numeric", "x", pattern="x")


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        (r"So it is $\frac{1}{2}$.", "0.5", 1),
        (r"\boxed{\{1, 2\}}", r"$\{2, 1\}$", 1),
        ("$x^2 + 2x + 1$", "$(x + 1)^2$", 1),
        (r"\boxed{3}", r"\frac{1}{2}", 0),
        ("I don't know", "7", 0),
    ],
)
def test_math_compares_formulas(answer, reference, right):
    pytest.importorskip("math_verify")
    assert value(judged("math", answer, {"reference": reference})) == right


def test_language_is_the_prompts_or_the_one_asked_for():
    pytest.importorskip("py3langid")
    german = "Das ist eine sehr schöne Stadt, und ich wohne gern hier."
    assert judged("language", german, languages=["de"]) == Score(1.0, {"found": "de", "expected": ["de"]})
    outcome = judged("language", german)
    assert outcome == Score(0.0, {"found": "de", "expected": ["en"]}) or value(outcome) == 0
    assert isinstance(judged("language", " ", languages=["de"]), Unscorable)


def test_an_unknown_language_is_refused():
    pytest.importorskip("py3langid")
    with pytest.raises(ConfigError, match="no code 'deu'"):
        judged("language", "x", languages=["deu"])


PROGRAM = "Here:\n```python\ndef double(x):\n    return 2 * x\n```\n"


def test_code_scores_the_share_of_tests_that_pass():
    row = {"extra": {"test_list": ["assert double(1) == 2", "assert double(1) == 3"]}}
    details = {"passed": 1, "tests": 2, "error": "AssertionError: "}
    assert judged("code", PROGRAM, row, timeout=60) == Score(0.5, details)


def test_code_calls_humanevals_check():
    row = {"test": "def check(candidate):\n    assert candidate(2) == 4", "entry_point": "double"}
    assert judged("code", PROGRAM, row, timeout=60) == Score(1.0, {"passed": 1, "tests": 1})


def test_code_without_tests_gives_no_score():
    outcome = judged("code", PROGRAM, {}, timeout=60)
    assert isinstance(outcome, Unscorable)
    assert "no tests in the row" in outcome.reason


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Answer: B\n\nExplanation: option C is wrong.", 1),
        ("ANSWER IS (b)", 0),  # a letter is a capital: `answer is a cat` is none
        ("The answer is (B).", 1),
        ("A.", 0),
    ],
)
def test_choice_is_read_where_the_answer_is_named(text, right):
    assert value(judged("choice", text, {"reference": "B"})) == right
