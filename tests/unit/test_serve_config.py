"""What `serve` may be asked to do."""

from pathlib import Path

import pytest
import yaml

from autoalign.config.serve import ServeConfig
from autoalign.errors import ConfigError, ModelError
from autoalign.serving.run import absolute, check, ready_text
from serve.app import inference
from tests.integration.fake_models import write

ROOT = Path(__file__).resolve().parents[2]

MODEL = {"checkpoint_path": "models/demo/"}


def test_the_served_id_is_the_folders_name():
    assert ServeConfig.build(MODEL).default_model == "demo"


def test_it_listens_on_this_machine_alone():
    assert ServeConfig.build(MODEL).host == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_a_loopback_address_needs_no_tokens(host):
    assert ServeConfig.build({**MODEL, "host": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "localhost.evil.org"])
def test_a_public_address_without_tokens_is_refused(host):
    with pytest.raises(ConfigError, match="require_tokens"):
        ServeConfig.build({**MODEL, "host": host})


def test_a_public_address_with_tokens_is_fine():
    assert ServeConfig.build({**MODEL, "host": "0.0.0.0", "require_tokens": True}).require_tokens


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing to serve"),
        ({**MODEL, "min_replicas": 2}, "above 'max_replicas'"),
        ({"model_roots": ["outputs"], "mode": "cli"}, "--checkpoint_path"),
        ({**MODEL, "port": 0}, "'port'"),
    ],
)
def test_what_cannot_be_served_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        ServeConfig.build(values)


def test_what_is_said_once_it_is_ready_can_be_typed():
    said = ready_text(ServeConfig.build({**MODEL, "jobs": True, "require_tokens": True, "port": 9000}))
    assert said.splitlines() == [
        "ready on http://127.0.0.1:9000 (OpenAI's API under http://127.0.0.1:9000/v1; Ctrl-C ends)",
        "  in a browser: http://127.0.0.1:9000/ (jobs and chat)",
        "  a token: autoalign-cli tokens create --name ME --scope infer,jobs",
        "  curl http://127.0.0.1:9000/v1/chat/completions -H 'Authorization: Bearer TOKEN'"
        " -H 'Content-Type: application/json'"
        """ -d '{"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}'""",
    ]
    assert "token" not in ready_text(ServeConfig.build(MODEL)).lower().replace("tokens", "")


def test_whole_paths_come_out_of_relative_ones_and_the_id_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "models", "demo")
    config = ServeConfig.build({**MODEL, "model_roots": ["outputs"]})
    check(config)
    config = absolute(config)
    assert (config.checkpoint_path, config.default_model) == (str(tmp_path / "models" / "demo"), "demo")
    assert config.model_roots == [str(tmp_path / "outputs")] and (tmp_path / "outputs").is_dir()


@pytest.mark.parametrize("path", sorted((ROOT / "serve").glob("*.yaml")), ids=lambda path: path.name)
def test_what_serve_run_reads_is_checked_as_the_command_line_is(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# serve run serve/{path.name} ")
    (application,) = yaml.safe_load(text)["applications"]
    assert ServeConfig.build(application["args"]).default_model == "smollm2-135m-instruct"
    with pytest.raises(ModelError, match="away: no such model folder"):
        inference({**application["args"], "checkpoint_path": str(tmp_path / "away")})
    with pytest.raises(ConfigError, match="checkpoint_pat"):
        inference({**application["args"], "checkpoint_pat": "x"})
