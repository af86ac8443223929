"""The platform's registry, as the endpoint asks it."""

import sqlite3

import pytest

from autoalign.jobs.settings import Settings
from autoalign.serving.registry import RegistryUnavailable, open_registry


def test_a_database_that_does_not_answer_is_said_so(tmp_path):
    registry = open_registry(Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path / 'a.db'}"))
    assert (registry.find("nobody"), dict(registry.served())) == (None, {})
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("ALTER TABLE promotions RENAME TO away")
    connection.commit()
    connection.close()
    for ask in (lambda: registry.find("nobody"), registry.served):
        with pytest.raises(RegistryUnavailable, match="try again later"):
            ask()
