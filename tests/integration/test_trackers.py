"""What trackers hold after a run that was broken off and resumed: each line of metrics.jsonl, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("wandb")
pytest.importorskip("mlflow")

from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from autoalign.training.supervised import SupervisedModel  # noqa: E402
from autoalign.training.tracking import figures  # noqa: E402
from tests.sft_runs import Run, Runner  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402
from tests.wandb_file import history, records  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    scratch = tmp_path_factory.mktemp("trackers")
    return Runner(save_tiny_model(scratch / "model"), write_conversations(scratch / "rows.jsonl"), scratch)


def break_at(config: SFTConfig, call: int) -> None:
    """Run until the forward pass of that number fails."""
    forward, calls = SupervisedModel.forward, iter(range(1, 1000))

    def failing(self: Any, batch: Any) -> Any:
        if next(calls) == call:
            raise ZeroDivisionError
        return forward(self, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(SupervisedModel, "forward", failing)
        run(config)


@pytest.fixture(scope="module")
def resumed(sft: Runner) -> Run:
    """Broken off in step 5 with a checkpoint of step 2: steps 3 and 4 are done twice."""
    trackers = {"report_to": ["tensorboard", "wandb", "mlflow"], "run_name": "mine", "project": "proofs"}
    evaluation = {"eval_data_path": [str(sft.data)], "eval_steps": 3, "per_device_eval_batch_size": 24}
    config = sft.config(max_steps=6, save_steps=2, **trackers, **evaluation)
    break_at(config, 6)
    return Run(Path(config.output_dir), run(config))


def expected(run: Run) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], pytest.approx(figures(line))) for line in run.lines]


def test_metrics_have_each_line_once(resumed: Run):
    assert [line["step"] for line in resumed.lines] == [1, 2, 3, 3, 4, 5, 6, 6]


def test_wandb_has_each_line_once(resumed: Run):
    files = sorted(resumed.folder.glob("wandb/offline-run-*/*.wandb"))
    lines = [line for path in files for line in history(path) if "loss" not in line]
    points = [
        (line["train/global_step"], {k: v for k, v in line.items() if "/" in k and k != "train/global_step"})
        for line in lines
    ]
    assert sorted(points, key=lambda point: (point[0], "eval/loss" in point[1])) == [
        (step, named) for step, named in expected(resumed)
    ]


def test_wandb_goes_on_with_one_run_of_the_name_given(resumed: Run):
    begun = [
        record.run
        for path in resumed.folder.glob("wandb/offline-run-*/*.wandb")
        for record in records(path)
        if record.WhichOneof("record_type") == "run"
    ]
    assert {(each.project, each.display_name) for each in begun} == {("proofs", "mine")}
    assert len({each.run_id for each in begun}) == 1
    config = {item.key: json.loads(item.value_json) for item in begun[0].config.update}
    assert (config["learning_rate"], config["max_steps"]) == (1e-3, 6)


def test_wandb_has_the_final_picture(resumed: Run):
    sent = [path.read_bytes() for path in resumed.folder.glob("wandb/offline-run-*/files/media/images/*.png")]
    assert (resumed.folder / "loss.png").read_bytes() in sent


def test_mlflow_has_each_line_once(resumed: Run):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{resumed.folder / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("proofs").experiment_id])
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    assert found.data.params["learning_rate"] == "0.001"
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["loss.png"]
    for name in ("train/loss", "train/grad_norm", "eval/loss"):
        points = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
        wanted = [(line["step"], figures(line)[name]) for line in resumed.lines if name in figures(line)]
        assert sorted(points) == wanted


def test_tensorboard_has_each_line_once(resumed: Run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(resumed.folder / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("eval/loss")]
    assert points == [
        (3, pytest.approx(resumed.column("eval_loss")[0])),
        (6, pytest.approx(resumed.column("eval_loss")[1])),
    ]
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert events.Tags()["images"] == ["loss"]


def test_a_server_that_is_away_costs_one_warning(sft: Runner, monkeypatch, capfd):
    """Nothing listens on port 9 of this machine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert len(sft.fresh(report_to="mlflow").lines) == 3
    stderr = capfd.readouterr().err
    assert stderr.count("warning: mlflow failed") == 1
    assert "mlflow lacks 3 lines of metrics.jsonl" in stderr
