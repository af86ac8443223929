"""Where a platform keeps its things, by the environment and by its own file."""

import pytest

from autoalign.errors import ConfigError, InputError
from autoalign.jobs.settings import Settings


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("HOME", "DATABASE_URL", "ROOTS"):
        monkeypatch.delenv(f"AUTOALIGN_{name}", raising=False)


def test_a_home_holds_a_database_of_its_own(tmp_path):
    settings = Settings.from_environment(tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/autoalign.db"
    assert (settings.limits.jobs, settings.hub) == (4, True)


def test_postgresql_gets_psycopg_3(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOALIGN_DATABASE_URL", "postgresql://me:secret@db/jobs")
    assert Settings.from_environment(tmp_path).database_url == "postgresql+psycopg://me:secret@db/jobs"


@pytest.mark.parametrize("url", ["nonsense:secret", "mysql://me:secret@db/jobs"])
def test_another_database_is_refused_without_its_password(tmp_path, monkeypatch, url):
    monkeypatch.setenv("AUTOALIGN_DATABASE_URL", url)
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment(tmp_path)
    assert "secret" not in str(caught.value)


def test_the_operators_file(tmp_path):
    (tmp_path / "platform.yaml").write_text(
        "limits: {jobs: 8, file_bytes: 1000}\ndefaults:\n  sft: {use_lora: true}\nhub: false\n"
    )
    settings = Settings.from_environment(tmp_path)
    assert (settings.limits.jobs, settings.limits.file_bytes, settings.limits.jobs_per_user) == (8, 1000, 2)
    assert (settings.defaults, settings.hub) == ({"sft": {"use_lora": True}}, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limit: {}", "did you mean 'limits'"),
        ("limits: {job: 8}", "limits.job"),
        ("limits: {jobs: many}", "limits.jobs"),
        ("defaults: {sft: {use_lorra: true}}", "did you mean 'use_lora'"),
        ("defaults: {sftt: {}}", "did you mean 'sft'"),
    ],
)
def test_a_mistake_in_it_is_named(tmp_path, text, message):
    (tmp_path / "platform.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        Settings.from_environment(tmp_path)
