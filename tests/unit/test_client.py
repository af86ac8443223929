"""`autoalign.Client` and `autoalign-cli jobs` against a platform behind a real socket."""

import threading

import pytest

import autoalign
from autoalign.cli.main import main
from autoalign.client import Client
from autoalign.errors import ConfigError, JobFailed
from tests.platforms import end, look, open_platform, watcher
from tests.web import application, serving


@pytest.fixture
def platform(tmp_path):
    return open_platform(tmp_path)


@pytest.fixture
def url(platform, monkeypatch):
    with serving(application(platform)) as address:
        monkeypatch.setenv("AUTOALIGN_URL", address)
        monkeypatch.setenv("AUTOALIGN_TOKEN", platform.tokens.create("alice", ["jobs"]).text)
        yield address


CONFIG = {"model_name_or_path": "base", "data_path": ["rows.jsonl"]}


def finish(platform, job_id, log="", code=0):
    watcher(platform).round()
    platform.folder(job_id).log.write_text(log)
    end(platform, look(platform, platform.jobs.get(job_id)), code)
    watcher(platform).round()


def test_a_job_from_python(platform, url):
    with autoalign.Client() as client:
        job = client.submit("sft", CONFIG)
        assert (job.state, job.config) == ("queued", CONFIG)
        finish(platform, job.id, "step 1\nstep 2\n")
        assert "".join(client.logs(job.id, follow=True)) == "step 1\nstep 2\n"
        job = client.wait(job.id, every=0)
        assert (job.state, job.is_over) == ("succeeded", True)
        assert [model.id for model in client.models()] == [job.model]
        assert [each.id for each in client.jobs(state="succeeded")] == [job.id]


def test_an_uploaded_file_names_data(platform, url, tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"messages": []}\n')
    with Client() as client:
        job = client.submit("sft", {**CONFIG, "data_path": [client.upload(tmp_path / "mine.jsonl")]})
    assert f"{platform.settings.files_folder}/file-" in platform.folder(job.id).config.read_text()


def test_a_refusal_is_wrong_input_that_names_the_key(url):
    with Client() as client, pytest.raises(ConfigError, match=r"learning_rat.*did you mean 'learning_rate'"):
        client.submit("sft", {**CONFIG, "learning_rat": 1})


def test_a_wrong_token_and_a_silent_platform_say_what_to_do(url):
    with Client(token="wrong") as client, pytest.raises(ConfigError, match="tokens create"):
        client.job("job-1")
    with Client("http://127.0.0.1:9", "x") as client, pytest.raises(JobFailed, match="is it running"):
        client.job("job-1")


def test_figures_come_in_order_over_pages(platform, url):
    with Client() as client:
        job = client.submit("sft", CONFIG)
        platform.jobs.put_metrics(job.id, 0, [{"step": step} for step in range(1250)])
        assert [row["step"] for row in client.metrics(job.id)] == list(range(1250))


def test_the_commands(platform, url, capsys):
    words = "jobs submit sft --model-name-or-path base --data_path rows.jsonl --learning_rate 1e-4"
    assert main(words.split()) == 0
    job_id = capsys.readouterr().err.split(":")[0]
    assert "learning_rate: 0.0001" in platform.folder(job_id).config.read_text()
    finish(platform, job_id, "error: no rows\n", code=2)
    assert main(["jobs", "logs", job_id, "--follow"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "error: no rows\n"
    assert "failed, no rows" in shown.err
    assert main(["jobs", "list", "--state", "failed"]) == 0
    assert job_id in capsys.readouterr().out
    assert main(["jobs", "stop", job_id]) == 2
    assert "can't be cancelled" in capsys.readouterr().err


def test_ctrl_c_leaves_the_job_running_and_says_so(platform, url, capsys, monkeypatch):
    with Client() as client:
        job = client.submit("sft", CONFIG)
    watcher(platform).round()

    def interrupted(self, job_id, follow=False):
        yield "step 1\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "logs", interrupted)
    assert main(["jobs", "logs", job.id, "--follow"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "step 1\n"
    assert f"{job.id} goes on" in shown.err
    assert look(platform, platform.jobs.get(job.id)).state == "running"


def test_a_log_is_followed_until_the_job_ends(platform, url):
    with Client() as client:
        job = client.submit("sft", CONFIG)
        watcher(platform).round()
        folder = platform.folder(job.id)
        folder.log.write_text("first\n")
        pieces = client.logs(job.id, follow=True)
        seen = next(pieces)
        thread = threading.Thread(target=finish, args=(platform, job.id, "first\nlast\n"))
        thread.start()
        seen += "".join(pieces)
        thread.join()
    assert seen == "first\nlast\n"


def test_promote_and_roll_back_from_the_command_line(platform, url, capsys, monkeypatch):
    monkeypatch.setenv("AUTOALIGN_TOKEN", platform.tokens.create("root", ["admin"]).text)
    made = []
    for _ in range(2):
        with Client() as client:
            job = client.submit("sft", CONFIG)
            finish(platform, job.id)
            made.append(client.job(job.id).model)
        assert main(["models", "promote", made[-1], "--name", "prod"]) == 0
    assert platform.models.served()["prod"].id == made[1]
    assert main(["models", "rollback", "prod"]) == 0
    assert f"prod is {made[0]}" in capsys.readouterr().err
