"""What `serve` may be asked to do."""

import pytest

from autoalign.config.serve import ServeConfig
from autoalign.errors import ConfigError

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
