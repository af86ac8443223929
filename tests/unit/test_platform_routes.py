"""The platform's HTTP API, driven by the published `openai` client over ASGI."""

import json

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from sqlalchemy import event, text

from autoalign.serving.catalogue import Catalogue
from autoalign.serving.registry import open_registry
from tests.platform_web import Web
from tests.platforms import ADMIN, end, look, open_platform, watcher

ROW = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]})
UPLOAD = {"purpose": "fine-tune"}


@pytest.fixture
def web(tmp_path):
    return Web(open_platform(tmp_path))


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A platform on which nothing comes about: whoever is given it is refused."""
    return Web(open_platform(tmp_path_factory.mktemp("empty")))


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


async def upload(client, rows=3):
    return await client.files.create(file=("rows.jsonl", f"{ROW}\n".encode() * rows), purpose="fine-tune")


async def test_a_file_comes_back_as_it_went(web):
    client = web.openai()
    file = await upload(client)
    assert (file.bytes, file.filename, file.purpose) == (3 * len(ROW) + 3, "rows.jsonl", "fine-tune")
    assert (await client.files.retrieve(file.id)) == file
    assert (await client.files.content(file.id)).read() == f"{ROW}\n".encode() * 3
    assert [each.id async for each in client.files.list()] == [file.id]
    assert (await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)
    assert list(web.platform.settings.files_folder.iterdir()) == []


async def test_pages_follow_each_other(web):
    client = web.openai()
    made = [(await upload(client)).id for _ in range(5)]
    assert [each.id async for each in client.files.list(limit=2)] == made[::-1]
    assert [each.id async for each in client.files.list(limit=2, order="asc")] == made


async def test_a_supervised_job_from_creation_to_its_model(web):
    client = web.openai()
    file = await upload(client)
    job = await client.fine_tuning.jobs.create(
        model="base",
        training_file=file.id,
        suffix="demo",
        seed=7,
        metadata={"team": "a"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}}},
    )
    FineTuningJob.model_validate(job.model_dump(), strict=True)
    assert job.status == "queued"
    config = web.platform.folder(job.id).config.read_text()
    assert "num_train_epochs: 2.0\n" in config
    assert "per_device_train_batch_size: 8\n" in config
    row = web.platform.jobs.get(job.id)
    watcher(web.platform).round()
    out = web.platform.folder(job.id).out
    lines = [{"step": 1, "loss": 2.0, "tokens": 40}, {"step": 2, "loss": 1.5, "tokens": 90}]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checkpoint(out, 2)
    assert (await client.fine_tuning.jobs.retrieve(job.id)).trained_tokens is None
    end(web.platform, row, 0)
    watcher(web.platform).round()
    job = await client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.metadata, job.hyperparameters.n_epochs) == ("succeeded", {"team": "a"}, 2)
    assert job.fine_tuned_model.startswith("ft:base:alice:demo:")
    assert job.trained_tokens == 90
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert [event.message for event in events][::-1] == [
        "Job created",
        "Attempt 1 starts",
        "Step 2: training loss=1.5000",
        "Job succeeded",
    ]
    assert [FineTuningJobEvent.model_validate(event.model_dump()) for event in events] == events
    checkpoints = [each async for each in client.fine_tuning.jobs.checkpoints.list(job.id)]
    FineTuningJobCheckpoint.model_validate(checkpoints[0].model_dump())
    assert (checkpoints[0].step_number, checkpoints[0].metrics.train_loss) == (2, 1.5)
    name = checkpoints[0].fine_tuned_model_checkpoint
    assert web.platform.models.find(name) == out / "checkpoint-2"


def checkpoint(out, step):
    """A checkpoint as training leaves it: a model folder that is whole."""
    folder = out / f"checkpoint-{step}"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "autoalign.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("ending", ["running", "cancelled", "failed"])
async def test_a_checkpoint_is_used_though_its_job_has_made_no_model(web, ending):
    client, other, root = web.openai(), web.openai(name="bob"), web.openai(name="root", scopes=("admin",))
    file = await upload(client)
    job = await client.fine_tuning.jobs.create(model="base", training_file=file.id)
    row = web.platform.jobs.get(job.id)
    watcher(web.platform).round()
    folder = checkpoint(web.platform.folder(job.id).out, 2)
    watcher(web.platform).round()
    if ending == "cancelled":
        await client.fine_tuning.jobs.cancel(job.id)
        watcher(web.platform).round()
    elif ending == "failed":
        end(web.platform, row, 1)
    watcher(web.platform).round()
    assert (await client.fine_tuning.jobs.retrieve(job.id)).status == ending
    (found,) = [each async for each in client.fine_tuning.jobs.checkpoints.list(job.id)]
    name = found.fine_tuned_model_checkpoint
    catalogue = Catalogue([], registry=open_registry(web.platform.settings), registry_roots=[folder.parent])
    assert catalogue.find(name).folder == folder  # what a chat with it is answered by
    theirs = await root.files.create(file=("rows.jsonl", f"{ROW}\n".encode()), purpose="fine-tune")
    for who, data in ((client, file.id), (root, theirs.id)):
        begun = await who.fine_tuning.jobs.create(model=name, training_file=data)
        assert f"model_name_or_path: {folder}\n" in web.platform.folder(begun.id).config.read_text()
    own = await upload(other)
    with pytest.raises(openai.BadRequestError):
        await other.fine_tuning.jobs.create(model=name, training_file=own.id)
    assert web.platform.models.find(name.replace("step-2", "step-3")) is None
    (folder / "autoalign.json").unlink()  # it is not whole
    assert web.platform.models.find(name) is None


async def test_dpo_begins_from_a_model_of_a_job(web):
    client = web.openai()
    file = await upload(client)
    first = await client.fine_tuning.jobs.create(model="base", training_file=file.id)
    row = web.platform.jobs.get(first.id)
    watcher(web.platform).round()
    end(web.platform, row, 0)
    watcher(web.platform).round()
    first = await client.fine_tuning.jobs.retrieve(first.id)
    hyperparameters = {"beta": 0.2, "learning_rate_multiplier": 2.0}
    job = await client.fine_tuning.jobs.create(
        model=first.fine_tuned_model,
        training_file=file.id,
        method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}},
    )
    FineTuningJob.model_validate(job.model_dump(), strict=True)
    config = web.platform.folder(job.id).config.read_text()
    assert f"model_name_or_path: {web.platform.folder(first.id).out}\n" in config
    assert "beta: 0.2\n" in config
    assert "learning_rate: 1.0e-06\n" in config  # 2 times DPO's usual 5e-7
    assert job.method.dpo.hyperparameters.beta == 0.2


async def test_cancel_pause_and_resume(web):
    client = web.openai()
    file = await upload(client)
    job = await client.fine_tuning.jobs.create(model="base", training_file=file.id)
    assert (await client.fine_tuning.jobs.pause(job.id)).status == "paused"
    assert (await client.fine_tuning.jobs.resume(job.id)).status == "queued"
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        await client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training_file": "file-none"}, "training_file"),
        ({"model": "/etc"}, "model"),
        ({"validation_file": "/etc/passwd"}, "validation_file"),
        ({"method": {"type": "reinforcement"}}, "method"),
        ({"seed": -1}, "seed"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters"),
        ({"extra_body": {"entrypoint": "rm -rf /"}}, "entrypoint"),
    ],
)
async def test_the_wrong_parameter_is_named(web, changes, param):
    client = web.openai()
    file = await upload(client)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.fine_tuning.jobs.create(**{"model": "base", "training_file": file.id, **changes})
    assert caught.value.param.split(".")[0] == param
    assert not web.platform.settings.jobs_folder.exists()


async def test_owners_see_their_own_and_admins_all(web):
    alice, bob, root = web.openai(), web.openai(name="bob"), web.openai(name="root", scopes=("admin",))
    file = await upload(alice)
    job = await alice.fine_tuning.jobs.create(model="base", training_file=file.id)
    assert [each.id async for each in root.fine_tuning.jobs.list()] == [job.id]
    assert [each.id async for each in bob.fine_tuning.jobs.list()] == []
    for ask in (bob.fine_tuning.jobs.retrieve(job.id), bob.fine_tuning.jobs.cancel(job.id)):
        with pytest.raises(openai.NotFoundError):
            await ask
    for ask in (bob.files.retrieve(file.id), bob.files.content(file.id), bob.files.delete(file.id)):
        with pytest.raises(openai.NotFoundError):
            await ask
    with pytest.raises(openai.BadRequestError):
        await bob.fine_tuning.jobs.create(model="base", training_file=file.id)


GZIP_BOMB = bytes.fromhex("1f8b0800000000000003") + b"\0" * 1000
HOSTILE = [
    ("../up.jsonl", ROW.encode()),
    ("/etc/cron.d/x.jsonl", ROW.encode()),
    ("a\0b.jsonl", ROW.encode()),
    (".hidden.jsonl", ROW.encode()),
    ("rows.exe", ROW.encode()),
    ("rows.jsonl", GZIP_BOMB),
    ("rows.jsonl", b""),
    ("rows.jsonl", b"\n\n"),
    ("rows.jsonl", b"not json\n"),
    ("rows.jsonl", b"[1]\n"),
    ("rows.jsonl", b'{"a": "\0"}\n'),
    ("rows.jsonl", b'{"a": "\xff"}\n'),
    ("rows.jsonl", json.dumps({"k" * (1 << 20): 1}).encode()),
    ("rows.jsonl", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"),
    ("rows.jsonl", b'{"a":' + b"[" * 100_000),
]


# What is refused of one JSON document; the other purposes take none.
HOSTILE_DOCUMENTS = [
    ("rows.json", GZIP_BOMB),
    ("rows.json", b""),
    ("rows.json", b" \n"),
    ("rows.json", b"[]"),
    ("rows.json", b"not json"),
    ("rows.json", b'[{"a": 1} {"b": 2}]'),
    ("rows.json", b'[{"a": 1},'),
    ("rows.json", b'[{"a": 1}] x'),
    ("rows.json", b'{"a": "\0"}'),
    ("rows.json", b'{"a": "\xff"}'),
    ("rows.json", b"[" + b"9" * 5000 + b"]"),
    ("rows.json", json.dumps([{"k" * (1 << 20): 1}]).encode()),
    ("rows.json", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"),
    ("rows.json", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("rows.JSON", b"[" * 100_000),
]
REFUSED = [(purpose, *file) for purpose in ("fine-tune", "batch", "user_data") for file in HOSTILE]
REFUSED += [("user_data", *file) for file in HOSTILE_DOCUMENTS]


@pytest.mark.parametrize(("purpose", "name", "content"), REFUSED, ids=range(len(REFUSED)))
async def test_a_hostile_file_is_refused_and_leaves_nothing(empty, purpose, name, content):
    boundary = "xxBOUNDARYxx"
    body = f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
    body += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    sent = body.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    async with empty.http() as http:
        answer = await http.post("/v1/files", content=sent, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert list(empty.platform.settings.files_folder.glob("*")) == []


async def test_a_claim_of_5_gb_is_refused_before_a_byte_is_read(web):
    async def no_body():
        raise AssertionError("the body is read")
        yield b""

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(5 << 30)}
    async with web.http() as http:
        answer = await http.post("/v1/files", content=no_body(), headers=headers)
        assert (await http.post("/api/jobs", content=no_body(), headers=headers)).status_code == 413
    assert answer.status_code == 413
    assert list(web.platform.settings.files_folder.glob("*")) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "sft", "config": ' + b'{"a":' * 100_000,
        b'{"kind": "s\\u0000ft", "config": {}}',
        b'{"kind": "\\ud800", "config": {}}',
        b'{"kind": "sft", "config": {"run_name": "\\ud800"}}',
        b'{"kind": "sft", "config": {"learning_rate": 1e999}}',
        b'{"kind": "sft", "config": {"\\ud800": 1}}',
        b'{"kind": "align", "config": {"verifier_options": {"\\ud800": 1}}}',
        b'{"kind": "align", "config": {"verifier_options": {"a": {"\\ud800": [1]}}}}',
        b'{"kind": "sft", "config": {"' + b"k" * 1000 + b'": 1}}',
        b'{"kind": "sft", "config": {}, "entrypoint": "true"}',
        b'{"kind": "sft", "config": {"model_name_or_path": "base", "data_path": [["rows.jsonl"]]}}',
        b"\xff\xfe",
        b"",
    ],
    ids=range(13),
)
async def test_a_hostile_body_is_refused(empty, body):
    async with empty.http() as http:
        answer = await http.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert not empty.platform.settings.jobs_folder.exists()


async def test_a_body_that_grows_past_its_limit_is_cut_off(web):
    async def endless():
        while True:
            yield b" " * 65536

    async with web.http() as http:
        answer = await http.post("/api/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


async def test_any_kind_of_job_over_the_platforms_own_routes(web):
    async with web.http() as http:
        config = {"models": ["base", "base"]}
        made = (await http.post("/api/jobs", json={"kind": "merge", "config": config})).json()
        watcher(web.platform).round()
        web.platform.folder(made["id"]).log.write_text("merging\ndone\n")
        (web.platform.folder(made["id"]).out / "model.bin").write_bytes(b"1234")
        end(web.platform, look(web.platform, web.platform.jobs.get(made["id"])), 0)
        watcher(web.platform).round()
        shown = (await http.get(f"/api/jobs/{made['id']}")).json()
        assert (shown["state"], shown["log_tail"]) == ("succeeded", "merging\ndone\n")
        assert shown["artefacts"] == [{"name": "model.bin", "kind": "file", "step": None, "bytes": 4}]
        log = await http.get(f"/api/jobs/{made['id']}/logs", params={"follow": True, "offset": 8})
        assert log.text == "done\n"
        listed = (await http.get("/api/jobs", params={"state": "succeeded"})).json()
        assert [job["id"] for job in listed["data"]] == [made["id"]]


async def test_promote_and_roll_back(web):
    models = []
    async with web.http() as http, web.http(name="root", scopes=("admin",)) as admin:
        for _ in range(2):
            made = (
                await http.post("/api/jobs", json={"kind": "merge", "config": {"models": ["base"]}})
            ).json()
            watcher(web.platform).round()
            end(web.platform, look(web.platform, web.platform.jobs.get(made["id"])), 0)
            watcher(web.platform).round()
            models.append((await http.get(f"/api/jobs/{made['id']}")).json()["model"])
        assert (await http.post(f"/api/models/{models[0]}/promote")).status_code == 403
        for model in models:
            answer = await admin.post(f"/api/models/{model}/promote", json={"name": "prod"})
            assert answer.json()["served_as"] == ["prod"]
        assert web.platform.models.served()["prod"].id == models[1]
        assert (await admin.post("/api/models/prod/rollback")).json()["id"] == models[0]
        assert web.platform.models.served()["prod"].id == models[0]
        assert (await admin.post("/api/models/prod/rollback")).status_code == 409
        assert (await admin.post("/api/models/none/rollback")).status_code == 404


async def test_a_page_of_models_takes_as_many_queries_as_one_model(web):
    asked = []
    event.listen(web.platform.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    counts = []
    async with web.http() as http:
        for _ in range(3):
            made = await http.post("/api/jobs", json={"kind": "merge", "config": {"models": ["base"]}})
            watcher(web.platform).round()
            end(web.platform, web.platform.jobs.get(made.json()["id"]), 0)
            watcher(web.platform).round()
            asked.clear()
            data = (await http.get("/api/models")).json()["data"]
            queries = [query for query in asked if query.startswith("SELECT") and "FROM tokens" not in query]
            counts.append((len(data), len(queries)))
    assert [each["kind"] for each in data] == ["merge"] * 3
    # The page, the names that are served, the kinds of the jobs.
    assert counts == [(1, 3), (2, 3), (3, 3)]


async def test_the_endpoints_own_name_is_promoted_over_and_rolled_back_to(web):
    web.platform.served = {"base": web.platform.settings.roots[0] / "base"}.get
    own = web.platform.references(ADMIN).model("base")
    async with web.http(name="root", scopes=("admin",)) as admin:
        made = (await admin.post("/api/jobs", json={"kind": "merge", "config": {"models": ["base"]}})).json()
        watcher(web.platform).round()
        end(web.platform, look(web.platform, web.platform.jobs.get(made["id"])), 0)
        watcher(web.platform).round()
        model = (await admin.get(f"/api/jobs/{made['id']}")).json()["model"]
        answer = await admin.post(f"/api/models/{model}/promote", json={"name": "base"})
        assert answer.json()["served_as"] == ["base"]
        assert web.platform.references(ADMIN).model("base") == str(web.platform.models.find(model))
        answer = await admin.post("/api/models/base/rollback")
        assert (answer.status_code, answer.json()["id"], answer.json()["served_as"]) == (
            200,
            "base",
            ["base"],
        )
        assert web.platform.references(ADMIN).model("base") == own
        assert (await admin.post("/api/models/base/rollback")).status_code == 404


async def test_the_list_of_kinds_has_a_form_for_each(web):
    async with web.http() as http:
        kinds = (await http.get("/api/kinds")).json()["data"]
    by_name = {kind["name"]: kind for kind in kinds}
    assert {"sft", "dpo", "rm", "sample", "score", "synthesize", "merge"} <= by_name.keys()
    assert "learning_rate" in by_name["sft"]["config"]["properties"]
    assert "trust_remote_code" in by_name["sft"]["closed"]


@pytest.mark.parametrize("path", ["/api/jobs", "/v1/files", "/v1/batches"])
async def test_a_database_that_does_not_answer_is_a_503(web, path, monkeypatch):
    async with web.http() as http:
        monkeypatch.setattr(web.platform.tokens, "find", lambda token: ADMIN)
        assert (await http.get(path)).status_code == 200
        with web.platform.database.engine.begin() as connection:
            for table in ("tokens", "batches", "files", "promotions", "models", "job_artefacts"):
                connection.execute(text(f"DROP TABLE {table}"))
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
        routes = await http.get(path)
        monkeypatch.undo()
        guard = await http.get(path)
    assert (routes.status_code, guard.status_code) == (503, 503)
    assert guard.json()["error"]["code"] == "unavailable"
