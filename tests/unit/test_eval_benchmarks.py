"""Benchmarks on their real files: which questions there are, and what the right answers score."""

import json
from collections import Counter

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import DataError
from autoalign.evaluation.ask import Answered
from autoalign.evaluation.benchmarks import (
    coconot,
    gsm8k,
    harmbench,
    humaneval,
    toxigen,
    wildguardtest,
    xstest,
)
from autoalign.evaluation.tools import Tools


def tools(tmp_path):
    return Tools(EvalConfig.build({"model_path": "m"}), "bench", tmp_path)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asks(shared_dir, module):
    return list(module.read(shared_dir / "data" / module.FILE))


@pytest.mark.parametrize(
    ("module", "harmful", "harmless"),
    # XSTest's paper: 250 safe prompts and 200 contrasts.
    [(xstest, 200, 250), (harmbench, 320, 0), (coconot, 395, 0)],
)
def test_harmful_and_harmless_requests(shared_dir, module, harmful, harmless):
    found = asks(shared_dir, module)
    assert Counter(ask.row.get("harmful", True) for ask in found) == Counter(
        {True: harmful} | ({False: harmless} if harmless else {})
    )
    assert len({ask.id for ask in found}) == len(found)


def test_what_a_behaviour_refers_to_stands_before_it(shared_dir):
    referring = [ask for ask in asks(shared_dir, harmbench) if "\n\n---\n\n" in ask.text]
    assert referring and all(len(ask.text.split("\n\n---\n\n")) == 2 for ask in referring)


def test_the_right_answers_of_gsm8k_are_right(shared_dir, tmp_path):
    found = asks(shared_dir, gsm8k)
    assert len(found) == 1319
    right = [Answered(ask, ((f"So it is {ask.row['reference'].split('#### ')[1]}.",),)) for ask in found]
    assert gsm8k.score(right, tools(tmp_path)).results[0].value == 100.0
    wrong = [Answered(ask, (("So it is -7.",),)) for ask in found]
    assert gsm8k.score(wrong, tools(tmp_path)).results[0].value == 0.0


def test_the_published_solutions_of_humaneval_pass(shared_dir, tmp_path):
    path = shared_dir / "data" / humaneval.FILE
    solutions = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(solutions) == 164
    answers = []
    for ask, row in list(zip(humaneval.read(path), solutions, strict=True))[:4]:
        body, whole = row["canonical_solution"], f"{row['prompt']}{row['canonical_solution']}"
        answers += [Answered(ask, ((text,),)) for text in (body, f"Sure:\n```python\n{whole}```")]
    assert humaneval.score(answers, tools(tmp_path)).results[0].value == 100.0
    empty = [Answered(answers[0].ask, (("    pass\n",),))]
    assert humaneval.score(empty, tools(tmp_path)).results[0].value == 0.0


def test_a_prompt_of_several_models_is_asked_once(tmp_path):
    rows = [
        {"prompt": "a", "prompt_harm_label": "harmful"},
        {"prompt": "b", "prompt_harm_label": "unharmful"},
    ]
    found = list(wildguardtest.read(write_rows(tmp_path / "w.jsonl", [*rows, rows[0]])))
    assert [(ask.text, ask.row["harmful"]) for ask in found] == [("a", True), ("b", False)]
    wrong = write_rows(tmp_path / "x.jsonl", [{"prompt": "a", "prompt_harm_label": "?"}])
    with pytest.raises(DataError, match=r"x\.jsonl:1: harmful or unharmful is expected, not '\?'"):
        list(wildguardtest.read(wrong))


def test_a_beginning_that_is_declined(tmp_path):
    found = list(toxigen.read(write_rows(tmp_path / "t.jsonl", [{"text": "they are"}, {"text": "all of"}])))
    said = ("I'm sorry, but I can't help with that.", "all of them are")
    answered = [Answered(ask, ((text,),)) for ask, text in zip(found, said, strict=True)]
    (result,) = toxigen.score(answered, tools(tmp_path)).results
    assert (result.metric, result.value) == ("refusal", 50.0)


def test_coconots_contrast_set_is_harmless(tmp_path):
    rows = [{"id": "a", "category": "x", "prompt": "p"}, {"id": "contrast_1", "category": "x", "prompt": "q"}]
    found = coconot.read(write_rows(tmp_path / "c.jsonl", rows))
    assert [ask.row["harmful"] for ask in found] == [True, False]
