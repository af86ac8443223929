"""`--reuse` after an OpenCompass set's data has changed: old answers do not meet new references."""

from pathlib import Path

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.evaluation import reuse
from autoalign.evaluation.layout import Layout
from autoalign.evaluation.opencompass.data_digest import digest, digests
from autoalign.evaluation.opencompass.datasets import Subset
from autoalign.evaluation.opencompass.environment import Environment
from autoalign.evaluation.opencompass.run import Plan

LEFT = (
    *("predictions/m/gsm8k.json", "predictions/m/tmp_gsm8k.jsonl", "predictions/m/tmp_gsm8k.json"),
    *("results/m/gsm8k.json", "results/m/gsm8k_replica0.json", "results/m/gsm8k/judge.json"),
    *("predictions/m/gsm8k_run1.json", "results/m/gsm8k_run1.json"),
)
OTHERS = ("predictions/m/gsm8k_cn.json", "results/m/gsm8k_cn.json", "logs/infer/m/gsm8k.out")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("x\n")
    (folder / "test.jsonl").write_text("".join(f'{{"row": {row}}}\n' for row in range(64)))
    (tmp_path / "data" / "cn.jsonl").write_text("y\n")
    return folder


class Evaluation:
    """An evaluation of two sets that OpenCompass has worked on; nothing is run."""

    def __init__(self, tmp_path: Path) -> None:
        self.layout = Layout("m_1", tmp_path / "m_1", tmp_path / "m_1.py")
        self.work = self.layout.opencompass_log / "20261128_120000"
        for name in (*LEFT, *OTHERS):
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text("{}")

    def start(self, data, *, is_reuse=True):
        config = EvalConfig.build({"model_path": "m", "reuse": is_reuse})
        cn = Subset("gsm8k_cn_gen", "gsm8k_cn", str(data.parent / "cn.jsonl"), True)
        runs = [
            Subset("gsm8k_gen", f"gsm8k{end}", str(data), True, run=run)
            for run, end in enumerate(("", "_run1"))
        ]
        plan = Plan(Environment(Path("python"), data), (), (*runs, cn), data.parent)
        sets = plan.forget_other_data(self.layout, config, reuse.noted_sets(self.layout))
        reuse.note(self.layout, config, None, sets=sets)

    def there(self, names):
        return [name for name in names if (self.work / name).exists()]


def without_row_10(data):
    rows = (data / "test.jsonl").read_text().splitlines(keepends=True)
    (data / "test.jsonl").write_text("".join(rows[:10] + rows[11:]))


def test_a_set_whose_data_has_changed_is_asked_again(tmp_path, data, capsys):
    evaluation = Evaluation(tmp_path)
    evaluation.start(data, is_reuse=False)
    without_row_10(data)
    evaluation.start(data)
    assert evaluation.there(LEFT) == []
    assert evaluation.there(OTHERS) == list(OTHERS)
    assert capsys.readouterr().err == "eval: data has changed, which is asked and scored anew: gsm8k_gen\n"


def test_it_is_told_once(tmp_path, data, capsys):
    evaluation = Evaluation(tmp_path)
    evaluation.start(data, is_reuse=False)
    without_row_10(data)
    for _ in range(2):
        evaluation.start(data)
    assert capsys.readouterr().err.count("\n") == 1


def test_data_that_is_the_same_elsewhere_keeps_its_answers(tmp_path, data):
    evaluation = Evaluation(tmp_path)
    evaluation.start(data, is_reuse=False)
    moved = data.parent.rename(tmp_path / "elsewhere") / "gsm8k"
    evaluation.start(moved)
    assert evaluation.there(LEFT) == list(LEFT)
    without_row_10(moved)
    evaluation.start(moved)
    assert evaluation.there(LEFT) == []


def test_an_evaluation_from_before_is_kept(tmp_path, data, capsys):
    evaluation = Evaluation(tmp_path)
    reuse.note(evaluation.layout, EvalConfig.build({"model_path": "m"}), None)
    without_row_10(data)
    evaluation.start(data)
    assert evaluation.there(LEFT) == list(LEFT)
    assert capsys.readouterr().err == ""


def test_what_is_noted_of_a_set_outlives_a_run_of_others(tmp_path, data):
    layout = Evaluation(tmp_path).layout
    config = EvalConfig.build({"model_path": "m", "reuse": True})
    reuse.note(layout, config, None, sets={"gsm8k": "1", "mmlu": "2"})
    reuse.note(layout, config, None, sets={"mmlu": "3"})
    reuse.note(layout, config, None)
    assert reuse.noted_sets(layout) == {"gsm8k": "1", "mmlu": "3"}


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        (
            lambda folder: (folder / "test.jsonl").write_text("z" * (folder / "test.jsonl").stat().st_size),
            True,
        ),
        (lambda folder: (folder / "test.jsonl").rename(folder / "dev.jsonl"), True),
        (lambda folder: (folder / "more.jsonl").write_text(""), True),
        (lambda folder: (folder / "train.jsonl").touch(), False),
        (lambda folder: (folder / "cache-1234.arrow").write_text("x"), False),
        (lambda folder: (folder / ".lock").write_text("x"), False),
    ],
)
def test_a_folder_is_its_files_names_and_contents(data, change, is_other):
    before = digest(data)
    change(data)
    assert (digest(data) != before) == is_other


def test_files_behind_a_link_count(tmp_path, data):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "gsm8k").symlink_to(data)
    (data / "back").symlink_to(tmp_path / "linked")  # and a ring ends
    before = digest(tmp_path / "linked")
    without_row_10(data)
    assert digest(tmp_path / "linked") != before


def test_runs_share_a_digest_and_a_set_of_no_known_place_has_none(data):
    subsets = [
        Subset("a", "a", str(data), True),
        Subset("a", "a_run1", str(data), True, run=1),
        Subset("b", "b", None, True),
        Subset("c", "c", str(data / "none"), True),
    ]
    assert digests(subsets) == {"a": digest(data)}
