"""The console's page, its files, and rows of files: what the browser asks, over ASGI."""

import base64
import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest

from autoalign.config.serve import ServeConfig
from autoalign.serving.app import Parts, build_app
from autoalign.serving.metrics import Metrics
from autoalign.serving.platform_routes import platform_routers
from autoalign.serving.row_routes import read_page
from tests.platforms import ADMIN, ALICE, Order, end, look, open_platform, sft, watcher

CONSOLE = Path(__file__).resolve().parents[2] / "autoalign" / "serving" / "console"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return open_platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def app(platform):
    config = ServeConfig(model_roots=[str(platform.settings.home)], require_tokens=True)
    routers = platform_routers(platform)
    return build_app(Parts(config, None, None, Metrics(), None, platform.tokens, routers))


@pytest.fixture
def http(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def bearer(platform, *scopes):
    return {"Authorization": f"Bearer {platform.tokens.create('alice', scopes).text}"}


async def test_a_browser_without_a_token_gets_the_login_page_as_a_401(http):
    answer = await http.get("/", headers=BROWSER)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert 'type="password"' in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/", {**BROWSER, "Authorization": "Bearer wrong"}),
        ("POST", "/", BROWSER),
        ("GET", "/console/files", BROWSER),
        ("GET", "/console/", BROWSER),
        ("GET", "/console/main.js", BROWSER),
        ("GET", "/whoami", BROWSER),
        ("GET", "/api/rows?source=rows.jsonl", BROWSER),
    ],
)
async def test_all_else_is_closed_with_an_error_in_json(http, method, path, headers):
    answer = await http.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_the_policy_lets_in_the_pages_own_script_alone(http):
    answer = await http.get("/", headers=BROWSER)
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}' blob:;" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_a_token_opens_the_modules_and_says_whose_it_is(http, platform):
    headers = bearer(platform, "infer")
    files = (await http.get("/console/files", headers=headers)).json()
    assert files.keys() == {path.name for path in CONSOLE.iterdir()} - {"index.html"}
    answer = await http.get("/whoami", headers=headers)
    assert answer.json() == {"object": "bearer", "name": "alice", "scopes": ["infer"]}
    assert (await http.get("/", headers=headers)).status_code == 200


def imports_of(name):
    return set(re.findall(r' from "\./([\w-]+\.js)";', (CONSOLE / name).read_text()))


def test_modules_import_what_is_there_and_never_in_a_circle():
    names = {path.name for path in CONSOLE.glob("*.js")}
    left = {name: imports_of(name) for name in names}
    assert set().union(*left.values()) <= names
    while left:
        free = [name for name, wanted in left.items() if not wanted & left.keys()]
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("])
def test_nothing_of_the_api_becomes_html(word):
    assert [path.name for path in CONSOLE.iterdir() if word in path.read_text()] == []


def test_modules_stay_small():
    assert [path.name for path in CONSOLE.glob("*.js") if len(path.read_text().splitlines()) > 150] == []


async def test_rows_of_a_jobs_file_come_page_by_page(http, platform):
    headers = bearer(platform, "admin")
    job = platform.submit(ALICE, sft())
    (platform.folder(job.id).out / "answers.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}')
    query = {"source": f"{job.id}/answers.jsonl", "limit": 2}
    first = (await http.get("/api/rows", params=query, headers=headers)).json()
    assert [json.loads(row["text"]) for row in first["data"]] == [{"a": 1}, {"a": 2}]
    second = (await http.get("/api/rows", params={**query, "offset": first["next"]}, headers=headers)).json()
    assert ([row["text"] for row in second["data"]], second["next"]) == (['{"a": 3}'], None)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("rows.jsonl", 200),
        ("/etc/passwd", 404),
        ("../platform.db", 404),
        ("none.jsonl", 404),
        ("base", 404),
        ("base/model.safetensors", 400),
        ("file-none", 404),
        ("a\0b", 404),
    ],
)
async def test_rows_are_read_below_the_roots_alone(http, platform, source, status):
    (platform.settings.roots[0] / "base" / "model.safetensors").touch()
    answer = await http.get("/api/rows", params={"source": source}, headers=bearer(platform, "jobs"))
    assert answer.status_code == status


async def test_a_job_of_another_is_not_there(http, platform):
    job = platform.submit(ALICE, sft())
    (platform.folder(job.id).out / "a.jsonl").write_text("{}\n")
    answer = await http.get(
        "/api/rows", params={"source": f"{job.id}/a.jsonl"}, headers=bearer(platform, "jobs")
    )
    assert answer.status_code == 404


def test_a_long_line_is_cut_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * (3 << 20) + b"\n" + b"next\n")
    page = read_page(path, 0, 10)
    assert [(len(row.text), row.cut) for row in page.data] == [(1 << 20, True), (4, False)]
    assert page.next is None


def test_an_offset_within_a_line_goes_on_with_the_next(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("one\ntwo\nthree\n")
    assert [row.text for row in read_page(path, 4, 1).data] == ["two"]
    assert [row.text for row in read_page(path, 5, 1).data] == ["three"]
    assert read_page(path, 99, 1).data == []


def test_an_array_comes_an_element_a_row(tmp_path):
    path = tmp_path / "rows.json"
    rows = [{"a": 'two, "three" \\'}, [1, [2, 3]], {"b": {"c": ["]", "}"]}}, "plain, text", 5]
    path.write_text(json.dumps(rows, indent=2))
    read, offset = [], 0
    while offset is not None:
        page = read_page(path, offset, 2)
        read.append([json.loads(row.text) for row in page.data])
        offset = page.next
    assert read == [rows[:2], rows[2:4], rows[4:]]
    assert read_page(path, 9999, 2).data == []


def test_a_mark_behind_a_piece_of_an_arrays_file_is_not_missed(tmp_path):
    path = tmp_path / "rows.json"
    for shift in range(4):
        rows = ["x" * ((1 << 16) - 4 - shift) + '\\"', ","]
        path.write_text(json.dumps(rows))
        assert [json.loads(row.text) for row in read_page(path, 0, 9).data] == rows


def test_a_long_element_is_cut_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(["x" * (3 << 20), "next"]))
    page = read_page(path, 0, 10)
    assert [(len(row.text), row.cut) for row in page.data] == [(1 << 20, True), (6, False)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"a": 1}\n{"a": 2}\n', ['{"a": 1}', '{"a": 2}']),
        ('{\n "a": 1\n}', ['{\n "a": 1\n}']),
        ('\ufeff[{"a": 1}]\n', ['{"a": 1}']),
        ("[]", []),
        ('[{"a": 1}, {"b"', ['{"a": 1}', '{"b"']),
    ],
    ids=["lines", "object", "byte order mark", "nothing", "broken off"],
)
def test_a_json_file_is_read_as_what_it_holds(tmp_path, text, rows):
    path = tmp_path / "rows.json"
    path.write_text(text)
    assert [row.text for row in read_page(path, 0, 10).data] == rows


async def test_a_model_says_which_kind_of_job_made_it(http, platform):
    job = platform.submit(ADMIN, Order("rm", sft().config))
    watcher(platform).round()
    end(platform, job, 0)
    watcher(platform).round()
    headers = bearer(platform, "admin")
    model = (await http.get(f"/api/models/{look(platform, job).model_id}", headers=headers)).json()
    assert (model["job_id"], model["kind"]) == (job.id, "rm")


async def test_kinds_say_which_keys_name_models_and_files(http, platform):
    kinds = (await http.get("/api/kinds", headers=bearer(platform, "jobs"))).json()["data"]
    (kind,) = [each for each in kinds if each["name"] == "sft"]
    assert kind["models"] == ["model_name_or_path"]
    assert kind["files"] == ["data_path", "eval_data_path"]
    assert kind["outputs"] == ["output_dir"]
