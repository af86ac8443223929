"""The config of `eval`, its places on the disk, and benchmarks of one's own."""

import json
from pathlib import Path

import pytest

from autoalign.cli.main import main
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, DataError, JobFailed, TemplateError
from autoalign.evaluation import benchmark, finished, judged_by, own_code, reuse
from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.layout import layout_of, settle
from autoalign.evaluation.results import Question, Result, write_results
from autoalign.evaluation.tools import Tools

CORE = ("gsm8k", "mmlu", "humaneval", "IFEval", "bbh", "ARC_c", "hellaswag", "truthfulqa")


def config(tmp_path, **keys):
    places = {"output_dir": str(tmp_path / "outputs"), "config_dir": str(tmp_path / "configs")}
    return EvalConfig.build({"model_path": "models/demo", **places, **keys})


def test_nothing_asked_for_is_the_core_set(tmp_path):
    assert config(tmp_path).dataset_names == tuple(f"{name}_gen" for name in CORE)


def test_a_model_here_has_its_folders_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert EvalConfig.build({"model_path": "."}).name == tmp_path.name


def test_one_benchmark_is_that_benchmark_alone(tmp_path):
    given = config(tmp_path, benchmarks="gsm8k")
    assert (given.dataset_names, given.benchmark_names) == ((), ("gsm8k",))


def test_upstreams_name_of_the_preference_set(tmp_path):
    assert config(tmp_path, eval_type="subjective").benchmark_names == ("mt_bench",)
    baselines = config(tmp_path, eval_type="preference", alpaca_path="a", arena_path="b")
    assert baselines.benchmark_names == ("mt_bench", "alpaca_eval", "arena_hard")


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"force": True, "reuse": True}, "exclude"),
        ({"endpoint": "localhost:8000"}, "http://"),
        ({"model_name": "a/b"}, "model_name"),
        ({"safety_by": "judge"}, "judge_model"),
        (
            {"endpoint": "http://h/v1", "template_name": "chatml"},
            "start it with this one, and leave template_name",
        ),
        (
            {"judge_base_url": "http://h/v1", "judge_template": "chatml"},
            "'judge_template' is for local judges",
        ),
        ({"judge_backend": "openai", "judge_template": "chatml"}, "'judge_template' is for local judges"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(tmp_path, keys, named):
    with pytest.raises(ConfigError, match=named):
        config(tmp_path, **keys)


def existing(tmp_path, **keys):
    given = config(tmp_path, model_id="m_1", **keys)
    layout = layout_of(given)
    layout.folder.mkdir(parents=True)
    layout.csv.write_text("old")
    return given, layout


def test_what_is_there_is_not_overwritten_unasked(tmp_path):
    given, layout = existing(tmp_path)
    with pytest.raises(ConfigError, match=r"ordered_res\.csv.*--force.*--reuse"):
        settle(layout, given, ask=None)
    assert layout.csv.read_text() == "old"


@pytest.mark.parametrize(("said", "kept"), [("y", False), ("n", True), ("", True)])
def test_on_a_terminal_the_user_is_asked(tmp_path, said, kept):
    given, layout = existing(tmp_path)
    if kept:
        with pytest.raises(ConfigError, match="nothing was changed"):
            settle(layout, given, ask=lambda _: said)
    else:
        settle(layout, given, ask=lambda _: said)
    assert layout.csv.exists() == kept


def test_force_clears_and_reuse_keeps(tmp_path):
    given, layout = existing(tmp_path, reuse=True)
    settle(layout, given)
    assert layout.csv.exists()
    layout.picture.write_text("old")
    layout.contamination.write_text("{}")
    settle(layout, config(tmp_path, model_id="m_1", force=True))
    assert list(layout.folder.iterdir()) == []


def test_reuse_is_of_the_same_evaluation(tmp_path):
    given, layout = existing(tmp_path, reuse=True, limit=32)
    reuse.note(layout, given, None)
    reuse.require_same(layout, given, None)
    reuse.require_same(layout, config(tmp_path, model_id="m_1", limit=32, benchmarks="gsm8k"), None)
    other = config(tmp_path, model_id="m_1", limit=64, temperature=0.5)
    with pytest.raises(ConfigError, match=r"limit was 32, is 64; temperature was none, is 0\.5"):
        reuse.require_same(layout, other, None)


def read(file):
    """A JSON file."""
    return json.loads(file.read_text())


def finished_by(given, layout, *names):
    """Benchmarks' figures, as a job leaves them."""
    layout.answers.mkdir(exist_ok=True)
    for name in names:
        told = {"made_from": "x", "judged": judged_by.digest(given), "results": []}
        (layout.answers / f"{name}.result.json").write_text(json.dumps(told))


def test_judges_may_change_where_all_they_judged_is_judged_again(tmp_path):
    given, layout = existing(tmp_path, reuse=True)
    reuse.note(layout, given, None, {"mt_bench": Path("/mt"), "xstest": Path("/x")})
    finished_by(given, layout, "mt_bench", "xstest")
    other = config(tmp_path, model_id="m_1", judge_model="j")
    reuse.require_same(layout, other, None, ["mt_bench", "xstest", "harmbench"])
    reuse.require_same(layout, given, None, ["xstest"])
    with pytest.raises(ConfigError, match="mt_bench would keep the figures of those before"):
        reuse.require_same(layout, other, None, ["xstest"])


def test_what_an_interrupted_run_has_not_judged_again_is_of_the_judges_before(tmp_path):
    given, layout = existing(tmp_path, reuse=True)
    finished_by(given, layout, "mt_bench", "xstest")
    other = config(tmp_path, model_id="m_1", judge_model="j")
    reuse.note(layout, other, None)  # and stopped after the first
    finished_by(other, layout, "mt_bench")
    with pytest.raises(ConfigError, match="xstest would keep the figures of those before"):
        reuse.require_same(layout, other, None, ["mt_bench"])
    finished_by(other, layout, "xstest")
    reuse.require_same(layout, other, None, ["mt_bench"])


def test_an_older_evaluation_is_compared_by_what_it_noted(tmp_path):
    given, layout = existing(tmp_path, reuse=True, judge_model="j", judge_prompt="pairwise")
    finished_by(given, layout, "arena_hard")
    older = layout.answers / "arena_hard.result.json"
    older.write_text(json.dumps({key: value for key, value in read(older).items() if key != "judged"}))
    noted = json.loads(json.dumps(given.model_dump(), default=str))
    layout.keys.write_text(json.dumps({**noted, "contents": {"judge_prompt": "0"}}))
    reuse.require_same(layout, given, None, ["alpaca_eval"])
    other = config(tmp_path, model_id="m_1", judge_model="k", judge_prompt="pairwise")
    with pytest.raises(ConfigError, match="arena_hard would keep the figures of those before"):
        reuse.require_same(layout, other, None, ["alpaca_eval"])


def test_reuse_keeps_the_figures_of_other_benchmarks(tmp_path):
    _, layout = existing(tmp_path)
    grade, broken = Result("mt_bench", "grade", 80, 5.2, unit=""), Result("humaneval", "", error="gone")
    now = [Result("humaneval", "pass@1", 164, 30.0), Result("gsm8k", "accuracy", 10, 50.0)]
    assert reuse.with_earlier(layout, now) == now
    write_results(layout.results, [broken, grade])
    assert reuse.with_earlier(layout, now) == [now[0], grade, now[1]]


def test_reuse_keeps_what_was_noted_of_other_benchmarks(tmp_path):
    given, layout = existing(tmp_path, reuse=True)
    reuse.note(layout, given, None, {"mt_bench": Path("/data/mt"), "xstest": Path("/a")}, "0.5.4")
    reuse.note(layout, given, None, {"xstest": Path("/b")})
    noted = json.loads(layout.keys.read_text())
    assert (noted["data"], noted["opencompass"]) == ({"mt_bench": "/data/mt", "xstest": "/b"}, "0.5.4")
    reuse.note(layout, config(tmp_path, model_id="m_1", force=True), None, {"xstest": Path("/b")})
    noted = json.loads(layout.keys.read_text())
    assert (noted["data"], noted["opencompass"]) == ({"xstest": "/b"}, None)


def test_reuse_is_of_the_same_model(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"a" * 100)
    given, layout = existing(tmp_path, reuse=True)
    reuse.note(layout, given, model)
    reuse.require_same(layout, given, model)
    (model / "model.safetensors").write_bytes(b"b" * 100)
    with pytest.raises(ConfigError, match=r"weights have changed.*--force to start anew"):
        reuse.require_same(layout, given, model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("judge_model", "j"),
        ("judge_guided", True),
        ("judge_max_new_tokens", 9),
        ("guard_prompt", "wildguard"),
        ("reward_model", "r"),
    ],
)
def test_another_judgement_is_another_hash(tmp_path, key, value):
    assert judged_by.digest(config(tmp_path)) == judged_by.digest(config(tmp_path, limit=3))
    assert judged_by.digest(config(tmp_path, **{key: value})) != judged_by.digest(config(tmp_path))


@pytest.mark.parametrize("key", ["judge_template", "judge_prompt", "guard_prompt"])
def test_another_prompt_under_the_same_name_is_another_hash(tmp_path, key):
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages }}")
    given = config(tmp_path, **{key: str(file)})
    before = judged_by.digest(given)
    file.write_text("{{ messages[0] }}")
    assert judged_by.digest(given) != before


def test_where_a_judge_runs_is_part_of_the_hash(tmp_path):
    here = config(tmp_path, judge_model="j")
    others = [{"judge_backend": "hf"}, {"judge_base_url": "http://a/v1"}, {"judge_base_url": "http://b/v1"}]
    digests = {judged_by.digest(config(tmp_path, judge_model="j", **keys)) for keys in others}
    assert len(digests | {judged_by.digest(here)}) == 4


def test_where_judges_would_run_is_nothing_without_a_judge(tmp_path):
    assert judged_by.digest(config(tmp_path, judge_backend="hf")) == judged_by.digest(config(tmp_path))


def model_folder(folder, weights):
    """What a digest is made of."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return str(folder)


def test_figures_of_a_judge_that_was_trained_anew_in_its_folder_do_not_hold(tmp_path):
    rows = [{"prompt": "Hello?"}]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judges = [model_folder(tmp_path / "a", b"a" * 100), model_folder(tmp_path / "b", b"b" * 100)]
    (tmp_path / "quiz.yaml").write_text("file: quiz.jsonl\nprompt: '{{ prompt }}'\nscorer: refusal\n")
    given = config(tmp_path, benchmarks=str(tmp_path / "quiz.yaml"), judge_model=judges)
    own = benchmark.load_all(given)[0]
    finished.write(tmp_path / "quiz.json", own, [Result("quiz", "grade", 1, 8.0, unit="")])
    assert finished.read(tmp_path / "quiz.json", benchmark.load_all(given)[0]) is not None
    model_folder(tmp_path / "b", b"c" * 100)
    assert finished.read(tmp_path / "quiz.json", benchmark.load_all(given)[0]) is None


def test_reuse_is_of_the_same_template(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages }}")
    given, layout = existing(tmp_path, reuse=True, template_name=str(file))
    reuse.note(layout, given, None)
    reuse.require_same(layout, given, None)
    file.write_text("{{ messages[0] }}")
    with pytest.raises(ConfigError, match=r"\(the contents of template_name have changed\)"):
        reuse.require_same(layout, given, None)


def test_reuse_is_of_the_same_tokenizer(tmp_path):
    given, layout = existing(tmp_path, reuse=True)
    reuse.note(layout, given, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ConfigError, match=r"\(the contents of chat_template\.jinja have changed\)"):
        reuse.require_same(layout, given, tmp_path)


def test_a_model_that_only_an_endpoint_knows_is_known_by_its_name(tmp_path):
    _, layout = existing(tmp_path)
    asked = {"model_id": "m_1", "endpoint": "http://h/v1", "model_name": "m"}
    reuse.note(layout, config(tmp_path, **asked, model_path="a"), None)
    reuse.require_same(layout, config(tmp_path, **asked, model_path="a"), None)
    with pytest.raises(ConfigError, match=r"\(model_path was a, is b\)"):
        reuse.require_same(layout, config(tmp_path, **asked, model_path="b"), None)


def test_reuse_goes_on_with_the_latest(tmp_path):
    for time in ("20260101_000000", "20260102_000000"):
        (tmp_path / "outputs" / f"demo_{time}").mkdir(parents=True)
    assert layout_of(config(tmp_path, reuse=True)).model_id == "demo_20260102_000000"


def test_reuse_of_nothing_is_wrong_input(tmp_path):
    with pytest.raises(ConfigError, match="no evaluation of demo"):
        layout_of(config(tmp_path, reuse=True))


QUIZ = """\
name: quiz
file: quiz.jsonl
prompt: "{{ question }} Answer with a number."
scorer: numeric
"""


def quiz(tmp_path, rows, text=QUIZ):
    (tmp_path / "quiz.yaml").write_text(text)
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = config(tmp_path, benchmarks=str(tmp_path / "quiz.yaml"))
    return benchmark.load_all(given)[0], Tools(given, "quiz", tmp_path)


def test_a_benchmark_of_ones_own(tmp_path):
    rows = [{"question": "2+2?", "answer": 4}, {"question": "3+3?", "answer": 6}]
    own, tools = quiz(tmp_path, rows)
    assert own.asks[0].turns == ("2+2? Answer with a number.",)
    answered = [Answered(ask, (("It is 4",),)) for ask in own.asks]
    (result,) = own.score(answered, tools).results
    assert (result.value, result.count) == (50.0, 2)


def test_the_runs_of_a_question_are_averaged(tmp_path):
    own, tools = quiz(tmp_path, [{"question": "2+2?", "answer": 4}])
    answered = [Answered(own.asks[0], (("4",), ("5",), ("4",), ("4",)))]
    assert own.score(answered, tools).questions[0].score == 0.75


def test_a_row_without_its_answer_is_named(tmp_path):
    with pytest.raises(DataError, match=r"quiz\.jsonl:2: 'answer' is missing"):
        quiz(tmp_path, [{"question": "?", "answer": 1}, {"question": "?"}])


def test_a_prompt_of_unknown_keys_is_named(tmp_path):
    with pytest.raises(DataError, match="question"):
        quiz(tmp_path, [{"q": "?", "answer": 1}])


def test_a_prompt_that_a_row_breaks_is_told_with_its_row(tmp_path):
    text = QUIZ.replace("{{ question }}", "{% for choice in choices %}{{ choice }}{% endfor %}")
    rows = [{"choices": ["a"], "answer": 1}, {"choices": None, "answer": 1}]
    with pytest.raises(
        DataError, match=r"quiz\.jsonl:2: the prompt can't be filled in: TypeError: .*iterable"
    ):
        quiz(tmp_path, rows, text)


def test_a_key_may_have_any_name(tmp_path):
    own, _ = quiz(tmp_path, [{"question": "2+2?", "answer": 4, "self": 1}])
    assert own.asks[0].row["self"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (QUIZ.replace("numeric", "numerik"), r"quiz\.yaml: 'scorer': .*'numerik' .*numeric"),
        (
            QUIZ + "options: {pattern: x}\n",
            r"quiz\.yaml: 'scorer': 'pattern' is no option of the scorers numeric",
        ),
        (QUIZ.replace("numeric", "regex\noptions: {pattern: '('}"), r"quiz\.yaml: 'scorer': 'pattern'"),
    ],
)
def test_a_scorer_that_is_wrong_is_found_before_anything_starts(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        quiz(tmp_path, [{"question": "?", "answer": 1}], text)


def test_figures_hold_for_the_judges_that_gave_them(tmp_path):
    own, _ = quiz(tmp_path, [{"question": "?", "answer": 1}])
    finished.write(tmp_path / "quiz.json", own, [Result("quiz", "accuracy", 1, 100.0)])
    assert finished.read(tmp_path / "quiz.json", own) is not None
    other = config(tmp_path, benchmarks=str(tmp_path / "quiz.yaml"), judge_model="j")
    assert finished.read(tmp_path / "quiz.json", benchmark.load_all(other)[0]) is None


def test_nothing_but_what_answers_is_the_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "eval_demo.yaml").write_text("model_path: m\nbenchmarks: nowhere.yaml\n")
    for words in ([], ["--backend", "vllm"], ["--backend=hf"]):
        assert main(["eval", *words]) == 2
        told = capsys.readouterr().err
        assert "no model given, so configs/eval_demo.yaml is run" in told and "nowhere.yaml" in told
    assert main(["eval", "--backend", "vllm", "--limit", "3"]) == 2
    assert "'model_path' is missing" in capsys.readouterr().err


def test_a_python_file_is_a_benchmark(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from autoalign.evaluation.ask import Ask, Scored\n"
        "def read(path): yield Ask('1', ('hello?',))\n"
        "def score(answered, tools): return Scored(())\n"
    )
    (own,) = benchmark.load_all(config(tmp_path, benchmarks=str(tmp_path / "mine.py")))
    assert (own.name, own.asks[0].turns) == ("mine", ("hello?",))


BROKEN = """\
from autoalign.evaluation.ask import Ask
def read(path):
    yield Ask("1", ("hello?",))
def score(answered, tools):
    return answered[7]
"""


def test_a_fault_in_ones_own_code_is_that_benchmarks_alone(tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    (own,) = benchmark.load_all(config(tmp_path, benchmarks=str(tmp_path / "mine.py")))
    with pytest.raises(JobFailed, match=r"mine\.py:5: IndexError"), own_code.told(own.code):
        own.score([], None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.5, r"score\(\) gives float; Scored\(results, questions\) is expected"),
        (None, r"score\(\) gives nothing; Scored"),
        (Scored(()), r"score\(\) gives no Result"),
        (Scored((0.5,)), r"score\(\) gives float where Result is expected"),
        (Scored((Result("mine", "accuracy", 1, 50.0),), ("a",)), "gives str where Question is expected"),
        (Scored((Result("mine", "accuracy", 1, float("nan")),)), "ValueError: Out of range"),
        (Scored((Result("mine", "accuracy", 1, "50"),)), r"mine\.py: ValueError"),
    ],
)
def test_what_score_gives_is_looked_at(given, said):
    with pytest.raises(JobFailed, match=said), own_code.told(Path("mine.py")):
        own_code.scored_of(given)


def test_what_score_gives_may_be_lists():
    result, question = Result("mine", "accuracy", 1, 50.0), Question("1", 0.5)
    assert own_code.scored_of(Scored([result], iter([question]))) == Scored((result,), (question,))


def test_questions_may_have_numbers_and_lists():
    assert own_code.ask_of(Ask(1, ["hello?"])) == Ask("1", ("hello?",))


READS = """\
from autoalign.evaluation.ask import Ask
def read(path): yield {}
def score(answered, tools): pass
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name", r"mine\.py:1: ModuleNotFoundError"),
        ("def read(path:\n", r"mine\.py:1: SyntaxError"),
        ("def read(path): return [1 / 0]\ndef score(a, t): pass\n", r"mine\.py:1: ZeroDivisionError"),
        ("def read(path): return []\n", r"defines no score\(\)"),
        (READS.format("'hello?'"), r"mine\.py: TypeError: read\(\) gives str; Ask\(id, turns, row\)"),
        (READS.format("Ask('1', 'hello?')"), r"question 1: its turns are 'hello\?'; a tuple of texts"),
        (READS.format("Ask('1', ('hello?',), None)"), "question 1: its row is nothing; a dict"),
        (
            READS.format("Ask('1', ('?',))") + "NEEDS = ('jury',)\n",
            "NEEDS names 'jury'; there are judge, rew",
        ),
        (
            READS.format("Ask('1', ('?',))") + "MAX_NEW_TOKENS = '9'\n",
            "MAX_NEW_TOKENS is '9'; int is expected",
        ),
    ],
)
def test_code_that_cannot_be_read_is_wrong_input(tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        benchmark.load_all(config(tmp_path, benchmarks=str(tmp_path / "mine.py")))


def test_a_template_of_judges_is_looked_for_before_anything_starts(tmp_path):
    given = config(tmp_path, benchmarks="gsm8k", judge_model="j", judge_template="typo")
    with pytest.raises(TemplateError, match="no chat template is named 'typo'"):
        benchmark.load_all(given)


def test_missing_data_is_named_before_anything_starts(tmp_path):
    with pytest.raises(DataError, match=r"gsm8k: .*nowhere/gsm8k/test\.jsonl"):
        benchmark.load_all(config(tmp_path, benchmarks="gsm8k", data_root=str(tmp_path / "nowhere")))


def test_an_unknown_benchmark_answers_with_those_there_are(tmp_path):
    with pytest.raises(LookupError, match="gsm8k"):
        benchmark.load_all(config(tmp_path, benchmarks="gsm9k"))
