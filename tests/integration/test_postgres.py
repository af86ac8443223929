"""The platform on a real PostgreSQL: migrations, replicas, tokens, a restart in between."""

import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event, text

from autoalign.jobs.database import Database
from autoalign.jobs.runners.fake import FakeRunner
from autoalign.jobs.settings import Limits, Settings
from autoalign.jobs.tables import Base
from autoalign.principals import TokensUnavailable
from autoalign.serving.api_route import ApiRoute
from tests import postgres
from tests.platforms import ALICE, BOB, finish, look, open_platform, sft, watcher

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with postgres.server() as running:
        yield running


@pytest.fixture
def url(server, monkeypatch):
    """A fresh schema, by the way that a user names the database."""
    monkeypatch.setenv("AUTOALIGN_DATABASE_URL", server.url)
    url = Settings.from_environment().database_url
    database = Database(url)
    with database.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    database.close()
    return url


def test_replicas_that_start_together_migrate_once(url):
    gate = threading.Barrier(4)
    opened = []

    def start():
        gate.wait()
        opened.append(Database(url))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    with opened[0].engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    for database in opened:
        database.close()


def test_replicas_start_no_job_twice_and_hold_the_limits(url, tmp_path):
    runner, limits = FakeRunner(), Limits(jobs=9, jobs_per_user=5)
    replicas = [open_platform(tmp_path, runner, limits, database_url=url) for _ in range(3)]
    for _ in range(8):
        replicas[0].submit(ALICE, sft())
        replicas[1].submit(BOB, sft())
    gate = threading.Barrier(6)

    def work(number):
        gate.wait()
        watcher(replicas[number % 3], replica=str(number)).round()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(runner.started.values()) == {1}
    running = replicas[2].jobs.in_state("running")
    by_owner = [sum(job.owner == who.token_id for job in running) for who in (ALICE, BOB)]
    assert sum(by_owner) == 9
    assert max(by_owner) == 5
    for replica in replicas:
        replica.close()


@pytest.mark.parametrize("ask", ["cancel", "pause"])
def test_what_is_asked_while_a_job_is_claimed_is_not_lost(url, tmp_path, ask):
    """The user's request comes between the claim's SELECT and its UPDATE."""
    runner = FakeRunner()
    claiming, asking = (open_platform(tmp_path, runner, database_url=url) for _ in range(2))
    job = asking.submit(ALICE, sft())
    asked = threading.Thread(target=lambda: getattr(asking, ask)(look(asking, job)))

    @event.listens_for(claiming.database.engine, "before_cursor_execute")
    def meanwhile(_connection, _cursor, statement, *_):
        if statement.startswith("UPDATE jobs") and asked.ident is None:
            asked.start()
            asked.join(timeout=1.0)  # it waits for the claim; without the lock it would be done

    claimed = claiming.jobs.claim_next(Limits(), "replica")
    asked.join(timeout=30)
    assert not asked.is_alive()
    now = look(asking, job)
    assert (claimed.id, now.state, now.intent, now.run_id) == (job.id, "running", ask, f"{job.id}-1")
    for platform in (claiming, asking):
        platform.close()


def test_what_the_database_can_not_keep_is_a_400(url, tmp_path):
    """Values that pass a route's own checks: PostgreSQL's refusal is no fault of the server's."""
    platform = open_platform(tmp_path, database_url=url)
    web = FastAPI()

    def find(name: str) -> str:
        return str(platform.models.find(name))

    router = APIRouter(route_class=ApiRoute)
    router.add_api_route("/find", find)
    web.include_router(router)
    answer = TestClient(web).get("/find", params={"name": "a\0b"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    platform.close()


def test_five_jobs_outlive_a_crash_of_the_database(server, url, tmp_path):
    platform = open_platform(tmp_path, limits=Limits(jobs=5, jobs_per_user=5), database_url=url)
    token = platform.tokens.create("ci", ["jobs"]).text
    jobs = [platform.submit(ALICE, sft()) for _ in range(5)]
    follower = watcher(platform, every=0.05)
    follower.round()
    runs = {job.id: look(platform, job) for job in jobs}
    server.stop()
    follower.start()  # round after round without a database
    for job in jobs[:3]:
        finish(platform, runs[job.id], 0)
    with pytest.raises(TokensUnavailable):
        platform.tokens.find(token)
    server.start()
    for job in jobs[3:]:
        finish(platform, runs[job.id], 2)
    wait(lambda: all(platform.is_over(job.id) for job in jobs))
    follower.stop()
    assert [look(platform, job).state for job in jobs] == ["succeeded"] * 3 + ["failed"] * 2
    assert platform.runner.started == {f"{job.id}-1": 1 for job in jobs}
    assert len(platform.models.aliases()) == 3
    assert platform.tokens.find(token).name == "ci"
    platform.close()


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
