"""`/v1/batches`, driven by the published `openai` client over ASGI."""

import json

import openai
import pytest
from openai.types import Batch

from autoalign.batching.run import _write_prompts
from autoalign.jobs.batch_store import _files
from autoalign.jobs.runners.base import Status
from tests.platform_web import Web
from tests.platforms import begin, end, look, open_platform, watcher


@pytest.fixture
def web(tmp_path):
    return Web(open_platform(tmp_path))


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


def request_row(custom_id, model="base", **body):
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **body}
    row = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row) + "\n"


async def new_batch(client, text):
    file = await client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
    )


async def test_a_batch_from_its_requests_to_its_files(web):
    client = web.openai()
    batch = await new_batch(client, request_row("a") + request_row("b"))
    Batch.model_validate(batch.model_dump(), strict=True)
    assert (batch.status, batch.request_counts.total, batch.metadata) == ("validating", 2, {"k": "v"})
    watcher(web.platform).round()
    (job,) = web.platform.jobs.in_state("running")
    out = web.platform.folder(job.id).out
    (out / "answers.jsonl").write_text("{}\n")
    (out / "errors.jsonl").write_text("")
    (out / "counts.json").write_text('{"completed": 1, "failed": 0}')
    watcher(web.platform).round()
    running = await client.batches.retrieve(batch.id)
    assert (running.status, running.request_counts.completed) == ("in_progress", 1)
    (out / "counts.json").write_text('{"completed": 2, "failed": 0}')
    end(web.platform, job, 0)
    watcher(web.platform).round()
    batch = await client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed, batch.error_file_id) == ("completed", 2, None)
    assert (await client.files.content(batch.output_file_id)).text == "{}\n"
    assert [each.id async for each in client.batches.list()] == [batch.id]


async def test_a_batch_with_a_wrong_row_fails_with_its_line(web):
    client = web.openai()
    batch = await new_batch(client, request_row("a") + request_row("b", temperature=9))
    Batch.model_validate(batch.model_dump(), strict=True)
    assert (batch.status, batch.errors.data[0].line, batch.errors.data[0].param) == (
        "failed",
        2,
        "body.temperature",
    )
    batch = await new_batch(client, request_row("a", model="/etc"))
    assert (batch.status, batch.errors.data[0].param) == ("failed", "body.model")
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(batch.id)


async def test_a_batch_is_cancelled(web):
    client = web.openai()
    batch = await new_batch(client, request_row("a"))
    watcher(web.platform).round()
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    for _ in range(2):
        watcher(web.platform).round()
    batch = await client.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("cancelled", None, None)


def answer_first(platform, job):
    """The batch's process is ended after its first answer."""
    files = _files(platform.folder(job.id))
    files.settings.mkdir(parents=True)
    (name,) = _write_prompts(files.requests, files.settings).groups
    answer = {"prompt_tokens": 5, "completion_tokens": 3, "finish_reason": "stop", "text": "hello"}
    line = json.dumps({**answer, "prompt_id": "1", "index": 0}) + "\n"
    (files.settings / name / "answers.jsonl.partial").write_text(line)


async def cancel_running(web, client, batch, job):
    await client.batches.cancel(batch.id)


async def cancel_paused(web, client, batch, job):
    web.platform.pause(look(web.platform, job))
    for _ in range(2):
        watcher(web.platform).round()
    assert look(web.platform, job).state == "paused"
    await client.batches.cancel(batch.id)


async def fail(web, client, batch, job):
    end(web.platform, job, 1)


async def be_killed_too_often(web, client, batch, job):
    web.platform.jobs.note(job, restarts=web.platform.settings.limits.restarts)
    begin(web.platform, web.platform.runner.runs[job.run_id])
    web.platform.runner.statuses[job.run_id] = Status("failed", None, "the supervisor died")


@pytest.mark.parametrize(
    ("ending", "status", "code"),
    [
        (cancel_running, "cancelled", "batch_cancelled"),
        (cancel_paused, "cancelled", "batch_cancelled"),
        (fail, "failed", "batch_failed"),
        (be_killed_too_often, "failed", "batch_failed"),
    ],
)
async def test_a_batch_that_is_ended_keeps_its_answers(web, ending, status, code):
    client = web.openai()
    batch = await new_batch(client, request_row("a") + request_row("b"))
    watcher(web.platform).round()
    (job,) = web.platform.jobs.in_state("running")
    answer_first(web.platform, job)
    await ending(web, client, batch, job)
    for _ in range(2):
        watcher(web.platform).round()
    batch = await client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == (status, 1, 1)
    answer = json.loads((await client.files.content(batch.output_file_id)).text)
    assert answer["custom_id"] == "a"
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == "hello"
    error = json.loads((await client.files.content(batch.error_file_id)).text)
    assert (error["custom_id"], error["response"], error["error"]["code"]) == ("b", None, code)
