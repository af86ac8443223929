"""The whole cycle by the published `openai` client: one running platform, the demo model, Ray Jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from tests.integration.served_endpoint import Endpoint, served
from tests.openai_client import message, pairs, requests, sums, upload, wait

pytestmark = pytest.mark.chaos

BASE = "smollm2-135m-instruct"
LONG = 600.0  # seconds that a job may take, beside whatever else this machine does
QUESTION = message("user", "What is 7 plus 7?")


@pytest.fixture(scope="module")
def platform(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOALIGN_ROOTS", os.fspath(demo_model.parent))
        flags = ["--jobs=true", f"--checkpoint_path={demo_model}"]
        with served(home, *flags, scopes=["infer", "jobs"]) as running:
            yield running


def trained(client: openai.OpenAI, model: str, rows: list[dict[str, Any]], method: Any) -> FineTuningJob:
    file = upload(client, rows, "fine-tune")
    job = client.fine_tuning.jobs.create(model=model, training_file=file, method=method, seed=1)
    job = wait(client.fine_tuning.jobs.retrieve, job.id, LONG)
    FineTuningJob.model_validate(job.model_dump(), strict=True)
    assert job.status == "succeeded", job.error
    return job


def by_litellm(platform: Endpoint, model: str) -> str:
    import litellm

    answer = litellm.completion(
        model=f"openai/{model}",
        api_base=f"{platform.url}/v1",
        api_key=platform.token,
        messages=[QUESTION],
        temperature=0,
        max_tokens=12,
    )
    return str(answer.choices[0].message.content)


def test_from_100_rows_to_a_batch_of_the_aligned_model(
    platform: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would look prices up in the internet
    client = openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.token, timeout=LONG)

    many = {"n_epochs": 4, "batch_size": 10, "learning_rate_multiplier": 5}
    tuned = trained(client, BASE, sums(100), {"type": "supervised", "supervised": {"hyperparameters": many}})
    events = list(client.fine_tuning.jobs.list_events(tuned.id))
    for event in events:
        FineTuningJobEvent.model_validate(event.model_dump(), strict=True)
    assert (events[-1].message, events[0].message) == ("Job created", "Job succeeded")
    losses = [event.data["train_loss"] for event in reversed(events) if event.type == "metrics"]
    assert len(losses) == 40 and losses[-1] < losses[0]

    name = str(tuned.fine_tuned_model)
    answer = client.chat.completions.create(model=name, messages=[QUESTION], temperature=0, max_tokens=12)  # type: ignore[list-item]
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    said = answer.choices[0].message.content
    assert said is not None and said.startswith("It is ")  # as the rows have it
    assert by_litellm(platform, name) == said

    few = {"beta": 0.1, "n_epochs": 1, "batch_size": 10}
    aligned = trained(client, name, pairs(20), {"type": "dpo", "dpo": {"hyperparameters": few}})
    assert aligned.fine_tuned_model != name

    lines = requests(200, model=aligned.fine_tuned_model, max_tokens=4, temperature=0)
    batch = client.batches.create(
        input_file_id=upload(client, lines, "batch"),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    batch = wait(client.batches.retrieve, batch.id, LONG)
    Batch.model_validate(batch.model_dump(), strict=True)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("completed", 200), batch.errors
    rows = [json.loads(line) for line in client.files.content(str(batch.output_file_id)).text.splitlines()]
    assert [row["custom_id"] for row in rows] == [f"request-{n}" for n in range(200)]
    for row in rows:
        ChatCompletion.model_validate(row["response"]["body"], strict=True)
