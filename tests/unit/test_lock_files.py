"""The lock files: pinned, whole, at one with pyproject.toml; and what set-up says when a tool is missing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
MAIN = ("train", "track", "sample", "score", "serve", "bench", "dev")
USED_BY = {"cpu": (*MAIN, "cpu"), "gpu": (*MAIN, "gpu"), "eval-cpu": ("eval",)}


def pins(name):
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", USED_BY)
def test_every_line_is_a_plain_pin(name):
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][0-9a-z.]*", line)]
    assert wrong == []


@pytest.mark.parametrize(("name", "extras"), USED_BY.items())
def test_a_lock_holds_all_that_its_extras_name(name, extras):
    locked = pins(name)
    for requirement in (line for extra in extras for line in EXTRAS[extra]):
        package = re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")
        exact = re.search(r"==(\S+)$", requirement)
        assert package in locked, requirement
        assert exact is None or locked[package] == exact[1]


@pytest.mark.parametrize("name", ["cpu", "eval-cpu"])
def test_cuda_builds_stay_off_a_cpu_machine(name):
    assert not {"torchvision", "torchaudio", "torchcodec"} & set(pins(name))
    assert not [package for package in pins(name) if package.startswith("nvidia-")]


def test_both_main_environments_train_with_the_same_versions():
    cpu, gpu = pins("cpu"), pins("gpu")
    shared = ("torch", "transformers", "ray", "deepspeed", "peft", "accelerate", "safetensors", "tokenizers")
    assert {name: cpu[name] for name in shared} == {name: gpu[name] for name in shared}


def set_up(environ):
    bash = shutil.which("bash")
    command = [bash, ROOT / "scripts" / "setup.sh"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def test_a_missing_python_is_named_with_its_remedy():
    done = set_up({**os.environ, "PYTHON": "python-that-is-not-here"})
    assert done.returncode == 1
    assert "Python 3.11 is needed" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_a_missing_gcc_is_named_with_its_remedy(tmp_path):
    python = tmp_path / "python3.11"
    python.symlink_to(sys.executable)
    for tool in ("dirname", "nvidia-smi", "grep"):
        if found := shutil.which(tool):
            (tmp_path / tool).symlink_to(found)
    done = set_up({"PATH": str(tmp_path), "PYTHON": str(python), "HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "apt-get install gcc" in done.stderr
