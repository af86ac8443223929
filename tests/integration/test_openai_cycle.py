"""The published `openai` client: data, training, preference training, a batch. Real jobs, the tiny model."""

import json

import openai
import pytest
from openai.types import Batch
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from autoalign.jobs.runners.local import LocalRunner
from autoalign.jobs.watcher import Watcher
from tests.openai_client import pairs, requests, sums, upload, wait
from tests.platforms import open_platform
from tests.tiny import save_tiny_model
from tests.web import application, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("platform")
    save_tiny_model(folder / "roots" / "base")
    training = {
        "launcher": "local",
        "bf16": False,
        "conv_template_name": "chatml",
        "max_steps": 3,
        "cache_dir": str(folder / "cache"),
    }
    defaults = {"sft": training, "dpo": training, "batch": {"backend": "hf", "max_new_tokens": 8}}
    platform = open_platform(folder, LocalRunner(), defaults=defaults)
    watcher = Watcher(platform, every=0.2)
    watcher.start()
    with serving(application(platform)) as url:
        token = platform.tokens.create("alice", ["jobs"]).text
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    watcher.stop()


@pytest.fixture(scope="module")
def tuned(client):
    file = upload(client, sums(100), "fine-tune")
    job = client.fine_tuning.jobs.create(model="base", training_file=file)
    return wait(client.fine_tuning.jobs.retrieve, job.id)


def test_supervised_training_on_100_rows(client, tuned):
    FineTuningJob.model_validate(tuned.model_dump(), strict=True)
    assert tuned.status == "succeeded", tuned.error
    events = list(client.fine_tuning.jobs.list_events(tuned.id))
    for event in events:
        FineTuningJobEvent.model_validate(event.model_dump(), strict=True)
    assert (events[-1].message, events[0].message) == ("Job created", "Job succeeded")
    assert any(event.type == "metrics" and event.data["step"] == 3 for event in events)


def test_dpo_on_the_model_that_it_made(client, tuned):
    job = client.fine_tuning.jobs.create(
        model=tuned.fine_tuned_model,
        training_file=upload(client, pairs(20), "fine-tune"),
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}},
    )
    job = wait(client.fine_tuning.jobs.retrieve, job.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model != tuned.fine_tuned_model


def test_a_batch_of_200_requests(client, tuned):
    batch = client.batches.create(
        input_file_id=upload(client, requests(200, model=tuned.fine_tuned_model), "batch"),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    batch = wait(client.batches.retrieve, batch.id)
    Batch.model_validate(batch.model_dump(), strict=True)
    assert (batch.status, batch.request_counts.completed) == ("completed", 200), batch.errors
    lines = client.files.content(batch.output_file_id).text.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["custom_id"] for row in rows] == [f"request-{n}" for n in range(200)]
    for row in rows:
        ChatCompletion.model_validate(row["response"]["body"], strict=True)
