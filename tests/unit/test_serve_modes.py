"""`serve --mode`: what each mode starts, without starting it."""

import pytest

from autoalign.cli import chat as terminal
from autoalign.cli.flags import config_from_args
from autoalign.cli.serve import serve
from autoalign.config.chat import ChatConfig
from autoalign.errors import ConfigError
from autoalign.serving import run as endpoint
from autoalign.serving.run import ready_text

CHECKPOINT = ["--checkpoint-path", "models/demo"]


class Started:
    """What was begun in place of an endpoint, a browser and a chat in the terminal."""

    def __init__(self):
        self.endpoints, self.opened, self.chats = [], [], []

    def run(self, config, say):
        self.endpoints.append(config)
        say("loading demo ...")
        say(ready_text(config))
        say("stopping")
        return 0

    def chat(self, flags):
        self.chats.append(config_from_args(ChatConfig, flags, "autoalign-cli chat"))
        return 7


@pytest.fixture
def started(monkeypatch):
    world = Started()
    monkeypatch.setattr(endpoint, "run", world.run)
    monkeypatch.setattr(terminal, "chat", world.chat)
    monkeypatch.setattr("webbrowser.open", world.opened.append)
    return world


def test_of_itself_it_is_an_endpoint_and_opens_nothing(started, capsys):
    assert serve(CHECKPOINT) == 0
    assert (len(started.endpoints), started.opened, started.chats) == (1, [], [])
    assert capsys.readouterr().out.splitlines()[1].startswith("ready on http://127.0.0.1:8000 ")


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        (["--port=9000"], "http://127.0.0.1:9000"),
        (["--host=::1", "--require_tokens"], "http://[::1]:8000"),
    ],
)
def test_the_browser_is_opened_once_on_the_console_when_it_is_ready(started, flags, url):
    assert serve([*CHECKPOINT, "--mode", "browser", *flags]) == 0
    assert (len(started.endpoints), started.opened) == (1, [url])


def test_in_the_terminal_the_chat_has_the_settings_of_the_endpoint_and_there_is_none(started):
    flags = ["--template=chatml", "--dtype=float32", "--max_model_len=512", "--trust_remote_code"]
    assert serve([*CHECKPOINT, "--mode", "cli", *flags]) == 7  # what the chat ended with
    (config,) = started.chats
    assert (config.model_path, config.backend, config.template) == ("models/demo", "vllm", "chatml")
    assert (config.dtype, config.max_model_len, config.trust_remote_code) == ("float32", 512, True)
    assert (started.endpoints, started.opened) == ([], [])


def test_what_is_left_out_the_chat_leaves_to_the_model(started):
    serve([*CHECKPOINT, "--mode=cli"])
    (config,) = started.chats
    assert (config.template, config.max_model_len, config.trust_remote_code) == (None, None, False)


def test_serve_platform_has_jobs_in_a_browser_too(started):
    serve(["platform", *CHECKPOINT, "--mode=browser"])
    assert (started.endpoints[0].jobs, len(started.opened)) == (True, 1)


def test_an_unknown_mode_is_refused(started):
    with pytest.raises(ConfigError, match="mode"):
        serve([*CHECKPOINT, "--mode=window"])
