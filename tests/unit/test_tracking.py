"""How lines reach a tracker: in order, once, whatever it does."""

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("torch")

from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError, MissingDependency, StoppedEarly
from autoalign.training import tracking
from autoalign.training.reporting import Display
from autoalign.training.trackers import wandb
from autoalign.training.trackers._tracker import BEGINNING, Position


class FakeService:
    """Stands for a tracker's module and its one run; it fails while `is_down`."""

    def __init__(self, sent=BEGINNING):
        self.run_id, self.place, self.sent = "run-1", "here", sent
        self.lines, self.started, self.outcome, self.is_down = [], [], None, False

    def start(self, run):
        if self.is_down:
            raise ConnectionError("no route")
        self.started.append(run)
        return self

    def log(self, step, figures):
        if self.is_down:
            raise ConnectionError("no route")
        self.lines.append((step, figures))

    def picture(self, path, step):
        pass

    def close(self, outcome):
        self.outcome = outcome


@pytest.fixture
def service(monkeypatch):
    fake = FakeService()
    monkeypatch.setattr(tracking.plugins, "load", lambda package, name: fake)
    return fake


@pytest.fixture
def config(tmp_path):
    return SFTConfig(
        model_name_or_path="m", data_path=["d"], output_dir=str(tmp_path / "mine"), report_to=["wandb"]
    )


def follow(config, events, error=None):
    """Show events as a job does; the notes that came of it."""
    Path(config.output_dir).mkdir(exist_ok=True)
    notes = []
    display = Display("sft", quiet=True)
    display.note = notes.append
    with tracking.tracked(config, display):
        for event in events:
            display.show(event)
        if error is not None:
            raise error
    return notes


START = {"kind": "start", "step": 0}


def row(step, **values):
    return {"kind": "row", "row": {"step": step, **(values or {"loss": 1.0})}}


def test_lines_are_split_into_training_and_evaluation(service, config):
    follow(
        config, [START, row(1, loss=2.0, lr=0.1), row(1, **{"eval_loss": 3.0, "eval_rewards/margins": 0.5})]
    )
    assert service.lines == [
        (1, {"train/loss": 2.0, "train/lr": 0.1}),
        (1, {"eval/loss": 3.0, "eval/rewards/margins": 0.5}),
    ]
    assert service.outcome == "finished"


def test_what_is_no_finite_number_is_left_out():
    assert tracking.figures({"step": 1, "loss": math.nan, "lr": 0.1, "what": "x"}) == {"train/lr": 0.1}


def test_the_run_is_named_after_the_folder(service, config):
    follow(config, [START])
    (run,) = service.started
    assert (run.name, run.project, run.job, run.run_id) == ("mine", "autoalign", "sft", None)
    assert run.config["learning_rate"] == 2e-5


def test_a_resumed_job_goes_on_with_its_run_and_repeats_nothing(service, config):
    follow(config, [START, row(1), row(2), row(3)])
    follow(config, [START, row(2), row(3), row(4)])
    assert [run.run_id for run in service.started] == [None, "run-1"]
    assert [step for step, _ in service.lines] == [1, 2, 3, 4]


def test_what_the_service_has_beyond_the_ledger_is_not_sent_again(service, config):
    service.sent = Position(2, False)
    follow(config, [START, row(1), row(2), row(2, eval_loss=1.0)])
    assert service.lines == [(2, {"eval/loss": 1.0})]


def test_lines_from_before_the_tracker_are_made_up_for(service, config, tmp_path):
    (tmp_path / "mine").mkdir()
    lines = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2))
    (tmp_path / "mine" / "metrics.jsonl").write_text(lines)
    follow(config, [{"kind": "start", "step": 2}, row(3)])
    assert [step for step, _ in service.lines] == [1, 2, 3]


def test_a_failing_service_costs_one_warning_and_no_job(service, config):
    service.is_down = True
    notes = follow(config, [START, *map(row, range(1, 6))])
    assert sum("wandb failed (no route)" in note for note in notes) == 1
    assert notes[-1] == "warning: wandb lacks 5 lines of metrics.jsonl"


def test_lines_wait_for_a_service_that_comes_back(service, config, monkeypatch):
    monkeypatch.setattr(tracking, "_RETRY_EVERY", 0.0)
    sender = tracking.Sender("wandb", config, tracking.Ledger(Path(config.output_dir) / "x.json"), print)
    Path(config.output_dir).mkdir()
    service.is_down = True
    sender.add({"step": 1, "loss": 1.0})
    sender.send()
    service.is_down = False
    sender.add({"step": 2, "loss": 1.0})
    sender.send()
    assert [step for step, _ in service.lines] == [1, 2]


@pytest.mark.parametrize(
    ("error", "outcome"), [(StoppedEarly("saved"), "stopped"), (KeyboardInterrupt(), "failed")]
)
def test_the_tracker_hears_how_the_job_ended(service, config, error, outcome):
    with pytest.raises(type(error)):
        follow(config, [START], error)
    assert service.outcome == outcome


def test_a_refused_job_leaves_no_trace(service, config, tmp_path):
    with pytest.raises(ConfigError):
        follow(config, [], ConfigError("wrong"))
    assert service.started == []
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_named_with_its_remedy(name, config, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=f"--report_to {name} needs it: pip install"):
        tracking.require(config.model_copy(update={"report_to": [name]}))


def test_wandb_online_needs_a_login(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match="WANDB_MODE=offline"):
        wandb.require()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0\n")
    (tmp_path / "netrc").chmod(0o600)
    wandb.require()
