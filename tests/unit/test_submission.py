"""A job on a model that the endpoint serves with a template, and the line that names its request."""

import json
import logging

import httpx
import pytest
import yaml

from autoalign.jobs.platform import Order
from autoalign.serving.catalogue import Catalogue
from autoalign.serving.metrics import Metrics
from autoalign.serving.request_log import RequestLog
from autoalign.serving.submission import template_key
from tests.platforms import open_platform
from tests.web import application

REQUEST = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
BATCH_ROW = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": REQUEST}
CHAT_ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
SFT = {"model_name_or_path": "base", "data_path": ["rows.jsonl"]}


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


class Web:
    """A platform beside an endpoint that serves `base` with `template`."""

    def __init__(self, folder, template, **settings):
        self.platform = open_platform(folder, **settings)
        app = application(self.platform, {"base": template}.get)
        token = self.platform.tokens.create("alice", ("jobs",)).text
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=RequestLog(app, Metrics())),
            base_url="http://test",
            headers={"Authorization": f"Bearer {token}", "X-Request-ID": "req-1"},
        )

    async def post(self, path, **body):
        answer = await self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def file(self, purpose, row):
        given = {"file": ("rows.jsonl", json.dumps(row).encode())}
        answer = await self.http.post("/v1/files", files=given, data={"purpose": purpose})
        return answer.json()["id"]

    def config(self, job_id):
        """The keys that the job runs with."""
        return yaml.safe_load(self.platform.folder(job_id).config.read_text())


async def test_a_fine_tuning_job_is_rendered_as_the_endpoints_chats_are(tmp_path):
    web = Web(tmp_path, "chatml")
    job = await web.post(
        "/v1/fine_tuning/jobs", model="base", training_file=await web.file("fine-tune", CHAT_ROW)
    )
    assert web.config(job["id"])["conv_template_name"] == "chatml"


async def test_a_batch_is_rendered_as_the_endpoints_chats_are(tmp_path):
    web = Web(tmp_path, "chatml")
    file = await web.file("batch", BATCH_ROW)
    order = {"input_file_id": file, "endpoint": BATCH_ROW["url"], "completion_window": "24h"}
    await web.post("/v1/batches", **order)
    (job,) = web.platform.jobs.in_state("queued")
    assert web.config(job.id)["template"] == "chatml"


async def test_the_operator_may_name_a_file_that_no_user_could(tmp_path):
    file = tmp_path / "elsewhere.jinja"
    file.write_text("{{ messages }}")
    web = Web(tmp_path, str(file))
    job = await web.post("/api/jobs", kind="sft", config=SFT)
    assert web.config(job["id"])["conv_template_name"] == str(file)
    assert job["config"] == SFT  # what the user asked for
    refused = await web.http.post(
        "/api/jobs", json={"kind": "sft", "config": {**SFT, "conv_template_name": str(file)}}
    )
    assert refused.status_code == 400


@pytest.mark.parametrize("asked", ["zephyr", None])
async def test_a_job_that_names_a_template_has_that(tmp_path, asked):
    web = Web(tmp_path, "chatml")
    job = await web.post("/api/jobs", kind="sft", config={**SFT, "conv_template_name": asked})
    assert web.config(job["id"])["conv_template_name"] == asked


async def test_other_operators_defaults_stay(tmp_path):
    web = Web(tmp_path, "chatml", defaults={"sft": {"use_lora": True, "conv_template_name": "zephyr"}})
    config = web.config((await web.post("/api/jobs", kind="sft", config=SFT))["id"])
    assert (config["use_lora"], config["conv_template_name"]) == (True, "chatml")


async def test_a_model_promoted_to_the_name_has_its_folders_own(tmp_path, monkeypatch):
    web = Web(tmp_path, "chatml")
    monkeypatch.setattr(web.platform.models, "promoted", lambda name: tmp_path if name == "base" else None)
    job = await web.post("/api/jobs", kind="sft", config=SFT)
    assert "conv_template_name" not in web.config(job["id"])


async def test_the_log_names_request_and_job(tmp_path, caplog):
    caplog.set_level(logging.INFO, "autoalign.serving.requests")
    job = await Web(tmp_path, None).post("/api/jobs", kind="sft", config=SFT)
    assert f"req-1 queued {job['id']}" in caplog.messages


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *(("sft", "conv_template_name"), ("dpo", "conv_template_name"), ("batch", "template")),
        *(("sample", "template"), ("eval", "template_name"), ("merge", None), ("no such kind", None)),
    ],
)
def test_each_kind_of_job_has_a_key_of_its_own_for_it(kind, expected):
    assert template_key(Order(kind, {})) == expected


def test_the_template_of_a_model_is_what_the_operator_serves_it_with(tmp_path):
    for name in ("own", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"w")
    catalogue = Catalogue([tmp_path], {"demo": (tmp_path / "own", "chatml")})
    assert [catalogue.template_of(name) for name in ("demo", "other", "none")] == ["chatml", None, None]
