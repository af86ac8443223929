"""Every flag of `sft` that decides what is read, logged, saved and resumed does what its help says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign import chat  # noqa: E402
from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.errors import ConfigError, ModelError  # noqa: E402
from tests.sft_runs import Run, Runner, distance, labelled_batch  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("flags")
    model = save_tiny_model(folder / "model")
    return Runner(model, write_conversations(folder / "rows.jsonl"), folder)


@pytest.fixture(scope="module")
def lengths(sft: Runner) -> list[int]:
    """Tokens of each of the 24 rows, counted by transformers."""
    counts: list[int] = labelled_batch(sft().folder, sft.data)["attention_mask"].sum(1).tolist()
    return counts


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _messages(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


# Data


def test_max_train_samples_takes_the_first_rows(sft: Runner, lengths: list[int]):
    data = sft(max_train_samples=5).manifest["data"]
    assert (data["rows"], data["tokens"]) == (5, sum(lengths[:5]))


def test_a_weight_repeats_a_file(sft: Runner, lengths: list[int]):
    data = sft(data_path=[f"{sft.data}@2"]).manifest["data"]
    assert (data["rows"], data["tokens"]) == (48, 2 * sum(lengths))


def test_several_files(sft: Runner, tmp_path: Path):
    more = _write(tmp_path / "more.jsonl", {"messages": _messages("Hi", "Hello")})
    assert sft(data_path=[str(sft.data), str(more)]).manifest["data"]["rows"] == 25


def test_format_decides_between_keys(sft: Runner, tmp_path: Path):
    """The row reads as Alpaca and as messages; the answers differ in length."""
    row = {"instruction": "Hi", "output": "Hello to you", "messages": _messages("Hi", "Yo")}
    data = [str(_write(tmp_path / "both.jsonl", row))]
    longer = sft(data_path=data, format="alpaca").manifest["data"]["supervised_tokens"]
    assert longer > sft(data_path=data, format="messages").manifest["data"]["supervised_tokens"]


def test_quarantine_writes_bad_rows_once_and_trains_on_the_others(sft: Runner, tmp_path: Path):
    good = {"messages": _messages("Hi", "Hello")}
    data = _write(tmp_path / "rows.jsonl", good, {"messages": _messages("Hi", "Hello")[:1]}, good)
    flags = {"data_path": [str(data)], "output_dir": str(tmp_path / "out"), "on_bad_row": "quarantine"}
    run = sft.fresh(**flags)
    sft.fresh(**flags, overwrite_output_dir=True)
    (entry,) = [json.loads(line) for line in (run.folder / "errors.jsonl").read_text().splitlines()]
    assert (entry["file"], entry["line"], entry["field"]) == (str(data), 2, "messages")
    assert run.manifest["data"]["rows"] == 2


def test_model_max_length_truncates_and_counts(sft: Runner, lengths: list[int]):
    data = sft(model_max_length=60).manifest["data"]
    over = [length for length in lengths if length > 60]
    assert 0 < len(over) < 24
    assert (data["rows"], data["truncated"], data["dropped"]) == (24, len(over), 0)
    assert data["tokens"] == sum(min(length, 60) for length in lengths)


def test_overlong_drop_drops_and_counts(sft: Runner, lengths: list[int]):
    data = sft(model_max_length=60, overlong="drop").manifest["data"]
    kept = [length for length in lengths if length <= 60]
    assert (data["rows"], data["truncated"], data["dropped"]) == (len(kept), 0, 24 - len(kept))
    assert data["tokens"] == sum(kept)


def test_overlong_counts_are_said_aloud(sft: Runner, capsys: pytest.CaptureFixture[str]):
    sft.fresh(model_max_length=60, max_steps=1)
    assert "rows truncated to model_max_length 60" in capsys.readouterr().err


def test_cache_dir_holds_the_tokens(sft: Runner, tmp_path: Path):
    sft.fresh(cache_dir=str(tmp_path), max_steps=1)
    assert list((tmp_path / "tokens").glob("*.arrow"))


# Templates


@pytest.mark.parametrize("name", ["chatml", "zephyr"])
def test_conv_template_name_is_exported(sft: Runner, name: str):
    run = sft(conv_template_name=name)
    assert (run.folder / "chat_template.jinja").read_text() == chat.get_template(name).source
    assert run.manifest["template"]["name"] == name


def test_conv_template_name_may_be_a_path(sft: Runner, tmp_path: Path):
    path = tmp_path / "mine.jinja"
    path.write_text(chat.get_template("zephyr").source)
    mine, named = sft(conv_template_name=str(path)), sft(conv_template_name="zephyr")
    assert mine.column("loss") == named.column("loss")


def test_no_conv_template_name_takes_the_tokenizers_own(sft: Runner):
    trained = sft(conv_template_name="zephyr")
    again = sft(model_name_or_path=str(trained.folder), conv_template_name=None)
    assert (again.folder / "chat_template.jinja").read_text() == chat.get_template("zephyr").source


# Remote code


def test_trust_remote_code(sft: Runner, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(sft.model, folder)
    (folder / "mine.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n"
        "class MineConfig(LlamaConfig):\n    model_type = 'mine'\n\n"
        "class MineForCausalLM(LlamaForCausalLM):\n    config_class = MineConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="trust_remote_code"):
        sft.fresh(model_name_or_path=str(folder))
    run = sft.fresh(model_name_or_path=str(folder), trust_remote_code=True)
    assert run.column("loss") == pytest.approx(sft().column("loss"), abs=1e-5)


# Logging


def test_logging_steps_averages_the_steps_since(sft: Runner):
    every, second = sft(max_steps=5), sft(max_steps=5, logging_steps=2)
    losses = every.column("loss")
    assert second.column("step") == [2, 4, 5]
    expected = [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
    assert second.column("loss") == pytest.approx(expected)


def test_report_to_tensorboard(sft: Runner):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = sft(report_to="tensorboard")
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert points == [(line["step"], pytest.approx(line["loss"], abs=1e-6)) for line in run.lines]
    assert not (sft().folder / "tensorboard").exists()


# Evaluation


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conversations(tmp_path_factory.mktemp("held-out") / "eval.jsonl", count=7)


def _loss_of(folder: Path, data: Path) -> float:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        loss: float = model(**labelled_batch(folder, data)).loss.item()
    return loss


def test_eval_steps_and_the_loss_as_transformers_computes_it(sft: Runner, held_out: Path):
    run = sft(max_steps=4, eval_data_path=[str(held_out)], eval_steps=2, save_steps=2)
    lines = [line for line in run.lines if "eval_loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    expected = [_loss_of(run.folder / "checkpoint-2", held_out), _loss_of(run.folder, held_out)]
    assert [line["eval_loss"] for line in lines] == pytest.approx(expected, abs=1e-5)
    assert run.report.eval_loss == lines[-1]["eval_loss"]


def test_without_eval_steps_the_end_is_evaluated(sft: Runner, held_out: Path):
    run = sft(eval_data_path=[str(held_out)])
    assert [line["step"] for line in run.lines if "eval_loss" in line] == [3]


def test_evaluation_changes_nothing_and_its_batch_size_neither(sft: Runner, held_out: Path):
    one = sft(eval_data_path=[str(held_out)], eval_steps=1, per_device_eval_batch_size=1)
    many = sft(eval_data_path=[str(held_out)], eval_steps=1, per_device_eval_batch_size=5)
    assert one.column("eval_loss") == pytest.approx(many.column("eval_loss"), abs=1e-5)
    assert distance(one.weights, sft().weights) == 0.0


def test_eval_steps_alone_are_refused(sft: Runner):
    with pytest.raises(ValueError, match="'eval_steps' is given without 'eval_data_path'"):
        sft.config(eval_steps=2)


# Checkpoints and resuming


def test_save_steps(sft: Runner):
    assert sft(max_steps=5, save_steps=2).checkpoints == ["checkpoint-2", "checkpoint-4"]
    assert sft(max_steps=5).checkpoints == []


def test_save_total_limit_keeps_the_newest(sft: Runner):
    run = sft(max_steps=5, save_steps=1, save_total_limit=2)
    assert run.checkpoints == ["checkpoint-3", "checkpoint-4"]


def _without_its_end(folder: Path) -> None:
    """Have a run as if it had been stopped after its last checkpoint."""
    state = json.loads((folder / "run.json").read_text())
    del state["report"]
    (folder / "run.json").write_text(json.dumps(state))


def _interrupted(run: Run, folder: Path) -> Path:
    """The output folder as it was after step 2, before the end."""
    folder.mkdir()
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(run.folder / name, folder)
    _without_its_end(folder)
    shutil.copytree(run.folder / "checkpoint-2", folder / "checkpoint-2")
    return folder


@pytest.mark.parametrize("lora", [False, True])
def test_resume_auto_goes_on_from_the_last_checkpoint(sft: Runner, lora: bool, tmp_path: Path):
    flags = {"max_steps": 4, "save_steps": 2, "use_lora": lora, "lora_dropout": 0.3}
    whole = sft(**flags)
    rest = sft.fresh(**flags, output_dir=str(_interrupted(whole, tmp_path / "out")))
    assert distance(rest.weights, whole.weights) == 0.0
    assert rest.column("loss") == whole.column("loss")


def test_resume_from_a_path_goes_on_elsewhere(sft: Runner, tmp_path: Path):
    flags = {"max_steps": 4, "save_steps": 2}
    whole = sft(**flags)
    start = str(whole.folder / "checkpoint-2")
    rest = sft.fresh(**flags, resume=start, output_dir=str(tmp_path / "out"))
    assert rest.column("step") == [3, 4]
    assert distance(rest.weights, whole.weights) == 0.0


def test_resume_from_a_path_twice_goes_on_from_what_was_saved_since(
    sft: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    flags = {"max_steps": 5, "save_steps": 1}
    whole = sft(**flags)
    start = str(whole.folder / "checkpoint-2")
    rest = sft.fresh(**flags, resume=start, output_dir=str(tmp_path / "out"))
    _without_its_end(rest.folder)
    again = sft.fresh(**flags, resume=start, output_dir=str(tmp_path / "out"))
    assert f"going on from {again.folder / 'checkpoint-4'} (step 4 of 5)" in capsys.readouterr().err
    assert distance(again.weights, whole.weights) == 0.0
    # Another checkpoint is another wish.
    _without_its_end(again.folder)
    third = str(whole.folder / "checkpoint-3")
    sft.fresh(**flags, resume=third, output_dir=str(tmp_path / "out"))
    assert f"going on from {third} (step 3 of 5)" in capsys.readouterr().err


def test_going_back_in_the_runs_own_folder_starts_over_from_there(
    sft: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    flags = {"max_steps": 5, "save_steps": 1, "output_dir": str(tmp_path / "out")}
    first = sft.fresh(**flags)
    _without_its_end(first.folder)
    back = {**flags, "resume": str(first.folder / "checkpoint-2"), "save_total_limit": 1}
    rest = sft.fresh(**back)
    assert "deleted checkpoint-3, checkpoint-4 of before" in capsys.readouterr().err
    assert rest.column("step") == [1, 2, 3, 4, 5]
    assert rest.checkpoints == ["checkpoint-2", "checkpoint-4"]
    assert distance(rest.weights, sft(max_steps=5, save_steps=1).weights) == 0.0
    _without_its_end(rest.folder)
    sft.fresh(**back)
    assert f"going on from {rest.folder / 'checkpoint-4'} (step 4 of 5)" in capsys.readouterr().err


def test_resume_refuses_another_jobs_checkpoint(sft: Runner, tmp_path: Path):
    start = str(sft(max_steps=4, save_steps=2).folder / "checkpoint-2")
    with pytest.raises(ConfigError, match=r"max_steps: was 4, is 6"):
        sft.fresh(max_steps=6, resume=start, output_dir=str(tmp_path / "out"))


def test_resume_never_refuses_a_run_that_is_there(sft: Runner):
    run = sft()
    with pytest.raises(ConfigError, match="resume is never"):
        sft.fresh(output_dir=str(run.folder), resume="never")


def test_a_finished_run_is_not_done_again(sft: Runner):
    run = sft()
    before = (run.folder / "model.safetensors").stat().st_mtime_ns
    assert sft.fresh(output_dir=str(run.folder)).report.loss == run.report.loss
    assert (run.folder / "model.safetensors").stat().st_mtime_ns == before


def test_overwrite_output_dir_starts_anew(sft: Runner, tmp_path: Path):
    out = str(tmp_path / "out")
    sft.fresh(output_dir=out, max_steps=5, save_steps=1)
    run = sft.fresh(output_dir=out, max_steps=2, overwrite_output_dir=True)
    assert run.column("step") == [1, 2]
    assert run.checkpoints == []


# Ray's flags; two workers equal one in test_training_resume.py


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"use_gpu": False, "cpus_per_worker": 4096}, "1 workers of 4096 CPUs need 4096"),
        pytest.param(
            {"use_gpu": True, "num_workers": 2},
            "2 workers need a GPU each; this machine has 0",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
    ],
)
def test_workers_that_the_machine_cannot_hold(
    sft: Runner, tmp_path: Path, flags: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        sft.fresh(**flags, launcher="ray", output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [{"num_workers": 2}, {"max_failures": 1}])
def test_flags_of_ray_are_refused_without_it(sft: Runner, flags: dict[str, Any]):
    with pytest.raises(ValueError, match="is for launcher ray"):
        sft.config(**flags)


def test_no_flag_is_without_a_test():
    """Flags of a subject that has a module of its own (trackers, streaming, ...) are tested there."""
    folder = Path(__file__).parents[1]
    tests = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("test_*.py"))
    assert [name for name in SFTConfig.model_fields if name not in tests] == []
