"""Jobs from queued to their end, with a runner that a test speaks for."""

import json
import threading

import pytest

from autoalign.errors import StoppedEarly
from autoalign.jobs.folder import Outcome
from autoalign.jobs.pages import Cursor
from autoalign.jobs.platform import Order, TooManyJobs, WrongState
from autoalign.jobs.runners.base import Status
from autoalign.jobs.runners.fake import FakeRunner
from autoalign.jobs.settings import Limits
from tests.platforms import ALICE, BOB, begin, end, look, open_platform, sft, watcher


@pytest.fixture
def platform(tmp_path):
    platform = open_platform(tmp_path)
    yield platform
    platform.close()


def test_a_job_runs_and_registers_its_model(platform):
    job = platform.submit(ALICE, sft())
    assert job.state == "queued"
    watcher(platform).round()
    assert look(platform, job).state == "running"
    end(platform, job, 0)
    watcher(platform).round()
    job = look(platform, job)
    assert (job.state, job.exit_code) == ("succeeded", 0)
    assert platform.models.get(job.model_id, ALICE).path == str(platform.folder(job.id).out)
    assert platform.models.get(job.model_id, BOB) is None


def test_a_failed_job_says_why(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    platform.folder(job.id).log.write_text("loading\nerror: rows.jsonl:3: messages: no answer\n")
    end(platform, job, 2)
    watcher(platform).round()
    job = look(platform, job)
    assert (job.state, job.exit_code, job.message) == ("failed", 2, "rows.jsonl:3: messages: no answer")


def test_limits_hold_in_total_and_for_each_user(tmp_path):
    platform = open_platform(tmp_path, limits=Limits(jobs=3, jobs_per_user=2))
    mine = [platform.submit(ALICE, sft()) for _ in range(3)]
    others = [platform.submit(BOB, sft()) for _ in range(2)]
    watcher(platform).round()
    assert [look(platform, job).state for job in mine] == ["running", "running", "queued"]
    assert [look(platform, job).state for job in others] == ["running", "queued"]


def test_a_user_may_not_queue_without_end(tmp_path):
    platform = open_platform(tmp_path, limits=Limits(queued_per_user=1))
    platform.submit(ALICE, sft())
    with pytest.raises(TooManyJobs):
        platform.submit(ALICE, sft())
    platform.submit(BOB, sft())
    assert len(list(platform.settings.jobs_folder.iterdir())) == 2


def test_two_replicas_start_no_job_twice(tmp_path):
    """Two platforms on one database and one cluster, their watchers in threads side by side."""
    runner = FakeRunner()
    limits = Limits(jobs=100, jobs_per_user=100)
    replicas = [open_platform(tmp_path, runner, limits) for _ in range(2)]
    jobs = [replicas[0].submit(ALICE, sft()) for _ in range(12)]
    gate = threading.Barrier(4)

    def work(replica):
        gate.wait()
        watcher(replica, replica=threading.current_thread().name).round()

    threads = [threading.Thread(target=work, args=(replicas[index % 2],)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runner.started == {f"{job.id}-1": 1 for job in jobs}
    assert {look(replicas[1], job).attempt for job in jobs} == {1}


def test_cancel_stops_the_run(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    assert platform.cancel(look(platform, job)).intent == "cancel"
    watcher(platform).round()
    watcher(platform).round()
    assert look(platform, job).state == "cancelled"
    with pytest.raises(WrongState, match="cancelled can't be cancelled"):
        platform.cancel(look(platform, job))


def test_a_waiting_job_is_cancelled_at_once(platform):
    job = platform.submit(ALICE, sft())
    assert platform.cancel(job).state == "cancelled"
    watcher(platform).round()
    assert platform.runner.started == {}


class Interrupted(FakeRunner):
    """Something comes about while a run is being submitted."""

    def __init__(self, meanwhile):
        super().__init__()
        self.meanwhile = meanwhile

    def submit(self, run):
        self.meanwhile()
        super().submit(run)


@pytest.mark.parametrize(("ask", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_is_asked_during_the_submission_stops_the_run_at_once(tmp_path, ask, state):
    runner = Interrupted(lambda: getattr(platform, ask)(look(platform, job)))
    platform = open_platform(tmp_path, runner)
    job = platform.submit(ALICE, sft())
    follower = watcher(platform)
    follower.round()
    assert runner.statuses == {f"{job.id}-1": Status("stopped")}
    follower.round()
    assert look(platform, job).state == state


def test_a_job_that_another_replica_ends_during_its_submission_leaves_no_run(tmp_path):
    """The submission takes longer than the lease on the job and the grace together."""

    def meanwhile():
        platform.cancel(look(platform, job))
        platform.jobs.note(job, watched_until=0.0)
        watcher(other, replica="other").round()
        assert look(platform, job).state == "cancelled"

    runner = Interrupted(meanwhile)
    platform, other = open_platform(tmp_path, runner), open_platform(tmp_path, runner)
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    assert runner.statuses == {f"{job.id}-1": Status("stopped")}


def test_a_replica_that_submits_a_job_looks_after_it(tmp_path):
    def meanwhile():
        platform.cancel(look(platform, job))
        watcher(other, replica="other").round()
        assert (look(platform, job).state, look(platform, job).watched_by) == ("running", "test")

    runner = Interrupted(meanwhile)
    platform, other = open_platform(tmp_path, runner), open_platform(tmp_path, runner)
    job = platform.submit(ALICE, sft())
    watcher(platform).round()


def test_a_cancelled_run_that_is_unknown_gets_its_grace_before_it_counts_as_never_begun(tmp_path):
    platform = open_platform(tmp_path)
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    platform.cancel(look(platform, job))
    platform.runner.statuses.clear()  # the cluster does not list it yet
    watcher(platform, grace=60.0).round()
    assert look(platform, job).state == "running"
    platform.runner.statuses[f"{job.id}-1"] = Status("running")
    watcher(platform, grace=60.0).round()
    assert platform.runner.statuses[f"{job.id}-1"] == Status("stopped")


def test_a_run_that_the_cluster_starts_after_its_cancel_never_begins(platform):
    platform.runner.reachable = False  # the submission got through all the same, as shows later
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    platform.runner.reachable = True
    platform.cancel(look(platform, job))
    watcher(platform).round()
    assert look(platform, job).state == "cancelled"
    folder = platform.folder(job.id)
    with pytest.raises(StoppedEarly), folder.held(f"{job.id}-1", patience=0):
        raise AssertionError("it has begun")
    with folder.held(f"{job.id}-2", patience=0):
        assert not folder.rule_out(f"{job.id}-2")  # it has begun


def test_pause_and_resume_make_another_attempt(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    platform.pause(look(platform, job))
    watcher(platform).round()
    watcher(platform).round()
    assert look(platform, job).state == "paused"
    platform.resume(look(platform, job))
    watcher(platform).round()
    assert look(platform, job).run_id == f"{job.id}-2"


def test_a_job_that_ended_before_its_cancel_has_succeeded(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    end(platform, job, 0)
    platform.cancel(look(platform, job))
    watcher(platform).round()
    assert look(platform, job).state == "succeeded"


def test_a_training_job_goes_on_after_the_cluster_restarts(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    begin(platform, platform.runner.runs[f"{job.id}-1"])
    platform.runner.statuses.clear()  # a new head knows nothing
    watcher(platform).round()
    assert look(platform, job).state == "queued"
    watcher(platform).round()
    job = look(platform, job)
    assert (job.state, job.run_id, job.restarts) == ("running", f"{job.id}-2", 1)


def test_a_merge_is_lost_with_its_cluster(platform):
    job = platform.submit(ALICE, Order("merge", {"models": ["base", "base"]}))
    watcher(platform).round()
    begin(platform, platform.runner.runs[f"{job.id}-1"])
    platform.runner.statuses.clear()
    watcher(platform).round()
    assert look(platform, job).state == "lost"
    assert "merge job can't go on" in look(platform, job).message


def test_a_run_that_never_began_is_submitted_again_under_its_own_id(platform):
    platform.runner.reachable = False
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    assert "down" in look(platform, job).message
    platform.runner.reachable = True
    watcher(platform).round()
    assert platform.runner.started == {f"{job.id}-1": 1}
    assert look(platform, job).attempt == 1


def test_a_process_that_outlives_its_cluster_is_waited_for(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    folder = platform.folder(job.id)
    with folder.held(f"{job.id}-1", patience=0):
        platform.runner.statuses.clear()
        watcher(platform).round()
        assert look(platform, job).state == "running"
        folder.write_outcome(Outcome(f"{job.id}-1", 0))
    watcher(platform).round()
    assert look(platform, job).state == "succeeded"


def test_a_cluster_that_stays_away_loses_the_job(tmp_path):
    platform = open_platform(tmp_path, limits=Limits(unreachable=0.0))
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    platform.runner.reachable = False
    watcher(platform).round()
    assert look(platform, job).state == "lost"


def test_restarts_have_an_end(tmp_path):
    platform = open_platform(tmp_path, limits=Limits(restarts=1))
    job = platform.submit(ALICE, sft())
    for attempt in (1, 2):
        watcher(platform).round()
        run_id = f"{job.id}-{attempt}"
        begin(platform, platform.runner.runs[run_id])
        platform.runner.statuses[run_id] = Status("failed", None, "Job supervisor actor died.")
        watcher(platform).round()
    assert look(platform, job).state == "lost"


def test_log_figures_and_checkpoints_come_into_the_database(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    folder = platform.folder(job.id)
    folder.log.write_text("step 1\n")
    (folder.out / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n{"ste')
    (folder.out / "checkpoint-2").mkdir()
    watcher(platform).round()
    assert look(platform, job).log_tail == "step 1\n"
    assert [row.figures["loss"] for row in platform.jobs.metrics(job.id)] == [2.5, 2.25]
    assert [row.step for row in platform.jobs.artefacts(job.id, "checkpoint")] == [2]


def test_a_job_that_waits_says_which_resource_is_missing(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    line = "waits for resources (5 s): 2 worker(s) of 1 GPU asked, room for 0. GPU: 2 asked, in no node"
    platform.folder(job.id).log.write_text(f"{line}\n")
    watcher(platform).round()
    assert look(platform, job).message == line


def test_a_resumed_job_writes_its_figures_anew(platform):
    job = platform.submit(ALICE, sft())
    follower = watcher(platform)
    follower.round()
    path = platform.folder(job.id).out / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n')
    follower.round()
    assert [row.figures.get("loss") for row in platform.jobs.metrics(job.id)] == [2.0, None]
    new = path.with_name("new")
    new.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "loss": 1.0}\n')
    new.replace(path)
    follower.round()
    assert [row.figures["loss"] for row in platform.jobs.metrics(job.id)] == [2.0, 1.5, 1.0]


def test_another_replica_tells_no_figure_twice(platform):
    job = platform.submit(ALICE, sft())
    watcher(platform).round()
    (platform.folder(job.id).out / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    for _ in range(3):
        watcher(platform).round()  # each with a memory of its own
    events = platform.jobs.events(job.id, Cursor(limit=50)).rows
    assert [event.message for event in events if event.type == "metrics"] == ["Step 1: training loss=2.0000"]


def test_one_jobs_fault_holds_no_other_up(platform):
    first, second = (platform.submit(ALICE, sft()) for _ in range(2))
    watcher(platform).round()
    platform.jobs.note(look(platform, first), kind="gone")
    platform.runner.statuses[f"{first.id}-1"] = Status("failed", None, "lost")
    end(platform, second, 0)
    watcher(platform).round()
    assert look(platform, second).state == "succeeded"


@pytest.mark.parametrize(("policy", "registered"), [("round-1/model", True), ("../../../roots/base", False)])
def test_an_aligned_model_is_the_one_that_its_report_names(platform, policy, registered):
    config = {"model_name_or_path": "base", "prompt_path": "rows.jsonl", "algorithm": "rft"}
    job = platform.submit(ALICE, Order("align", {**config, "verifier": "numeric"}))
    watcher(platform).round()
    out = platform.folder(job.id).out
    (out / "round-1" / "model").mkdir(parents=True)
    (out / "report.json").write_text(json.dumps({"policy": str(out / policy)}))
    end(platform, job, 0)
    watcher(platform).round()
    job = look(platform, job)
    assert (job.state, job.model_id is not None) == ("succeeded", registered)
    if registered:
        assert platform.models.find(job.model_id, ALICE) == out / "round-1" / "model"
