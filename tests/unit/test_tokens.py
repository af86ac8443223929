"""Bearer tokens: what is kept of them, and when they stop working."""

import hashlib
import sqlite3

import pytest

from autoalign.cli.main import main
from autoalign.errors import ConfigError
from autoalign.jobs.database import Database
from autoalign.jobs.token_store import TokenStore


@pytest.fixture
def store(tmp_path):
    return TokenStore(Database(f"sqlite:///{tmp_path}/tokens.db"))


def test_a_token_finds_its_bearer(store):
    token = store.create("console", ["jobs", "infer"])
    principal = store.find(token.text)
    assert (principal.name, principal.scopes) == ("console", {"infer", "jobs"})
    assert store.find(token.text + "0") is None
    assert store.find("x" * 100_000) is None


def test_its_text_is_kept_nowhere(store, tmp_path):
    text = store.create("console", ["jobs"]).text
    with sqlite3.connect(tmp_path / "tokens.db") as database:
        dump = "\n".join(database.iterdump())
    assert text not in dump
    assert hashlib.sha256(text.encode()).hexdigest() in dump


def test_a_revoked_token_opens_nothing(store):
    token = store.create("console", ["jobs"])
    store.revoke(token.row.id)
    assert store.find(token.text) is None
    with pytest.raises(ConfigError, match="no valid token"):
        store.revoke(token.row.id)


@pytest.mark.parametrize(("name", "scopes"), [("", ["jobs"]), ("a\nb", ["jobs"]), ("a", []), ("a", ["job"])])
def test_a_token_needs_a_name_and_known_scopes(store, name, scopes):
    with pytest.raises(ConfigError):
        store.create(name, scopes)


def test_the_command_prints_the_token_last(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUTOALIGN_HOME", str(tmp_path))
    monkeypatch.delenv("AUTOALIGN_DATABASE_URL", raising=False)
    assert main(["tokens", "create", "--name", "ci", "--scope", "infer,jobs"]) == 0
    text = capsys.readouterr().out.splitlines()[-1]
    store = TokenStore(Database(f"sqlite:///{tmp_path}/autoalign.db"))
    principal = store.find(text)
    assert principal.name == "ci"
    assert main(["tokens", "revoke", principal.token_id]) == 0
    assert store.find(text) is None


def test_an_unknown_scope_is_wrong_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUTOALIGN_HOME", str(tmp_path))
    assert main(["tokens", "create", "--name", "ci", "--scope", "inferr"]) == 2
    assert "did you mean 'infer'" in capsys.readouterr().err
