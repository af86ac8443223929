"""`autoalign-cli doctor`: each finding, and the command that mends it."""

import importlib.metadata

import pytest

from autoalign.cli import doctor
from autoalign.errors import ConfigError


def versions(**known):
    def version(name):
        if name not in known:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    return version


def test_pins_are_read_from_a_lock(tmp_path):
    (tmp_path / "cpu.lock").write_text("# Written by: x==y\ntorch==2.13.0\nhuggingface_hub==2.4.0\n")
    assert doctor.read_pins(tmp_path / "cpu.lock") == {"torch": "2.13.0", "huggingface-hub": "2.4.0"}


def test_no_lock_means_no_pins(tmp_path):
    assert doctor.read_pins(tmp_path / "cpu.lock") == {}


def test_a_cpu_build_satisfies_the_pin():
    found = doctor.library("torch", "2.13.0", versions(torch="2.13.0+cpu"))
    assert (found.state, found.found) == ("ok", "2.13.0+cpu")


def test_another_version_is_noted_with_the_tested_one():
    found = doctor.library("ray", "2.60.0", versions(ray="2.50.0"))
    assert (found.state, found.mend) == ("note", "tested with 2.60.0: make setup")


def test_a_missing_library_names_the_command():
    found = doctor.library("deepspeed", "0.19.8", versions())
    assert (found.state, found.mend) == ("missing", "make setup")


def test_a_cuda_torchvision_on_a_cpu_machine_is_found():
    (found,) = doctor.misplaced(versions(torchvision="0.28.0"))
    assert found.state == "missing"
    assert "pip uninstall -y torchvision" in found.mend


def test_a_cpu_torchvision_is_left_alone():
    assert list(doctor.misplaced(versions(torchvision="0.28.0+cpu"))) == []


def test_a_missing_system_library_names_its_package():
    found = doctor.shared_library("libnothing-of-this-name.so.7", "apt-get install libnothing7")
    assert (found.state, found.mend) == ("missing", "vLLM needs it: apt-get install libnothing7")


@pytest.mark.parametrize(
    ("environ", "file_is_there", "state"),
    [
        ({}, False, "ok"),
        ({"RAY_AUTH_MODE": "token"}, True, "ok"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"}, False, "ok"),
        ({}, True, "note"),  # a 401 from `ray job submit` is what follows
        ({"RAY_AUTH_MODE": "token"}, False, "missing"),
    ],
)
def test_ray_token(tmp_path, environ, file_is_there, state):
    file = tmp_path / "auth_token"
    if file_is_there:
        file.write_text("secret")
    found = doctor.ray_token(environ, file)
    assert found.state == state
    assert "secret" not in found.found + found.mend


def test_exit_code_tells_whether_something_is_missing(monkeypatch, capsys):
    findings = [doctor.Finding("torch", "2.13.0", "ok"), doctor.Finding("ray", "no", "missing", "make setup")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert doctor.doctor([]) == 1
    assert "1 missing" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: findings[:1])
    assert doctor.doctor([]) == 0


def test_the_table_lines_up():
    lines = list(
        doctor.table([doctor.Finding("a", "1", "ok"), doctor.Finding("long", "22", "missing", "do it")])
    )
    assert lines == ["a     1   ok", "long  22  MISSING  do it"]


def test_an_unknown_flag_is_refused():
    with pytest.raises(ConfigError, match="--fix"):
        doctor.doctor(["--fix"])
