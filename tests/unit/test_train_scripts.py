"""The training scripts: which chat template they hand to the job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chat_tokenizers import byte_level, metaspace

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A copy of the scripts beside a command that prints the flags it got."""
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name, line in (("autoalign-cli", 'echo "$@"'), ("python", f'exec {sys.executable} "$@"')):
        (programs / name).write_text(f"#!/bin/bash\n{line}\n")
        (programs / name).chmod(0o755)
    return Path(shutil.copytree(SCRIPTS, tmp_path / "scripts"))


def run(scripts: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = {"MODEL_PATH": str(scripts.parent / "model"), "DATA_PATH": "d.json", "OUTPUT_DIR": "out"}
    return subprocess.run(
        ["bash", str(scripts / "train_sft.sh"), *flags],
        env={**os.environ, "CONV_TEMPLATE": "", "DEEPSPEED": "none", **paths, **variables},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("job", ["sft", "dpo"])
def test_a_script_hands_its_job_paths_and_flags_to_the_command(scripts: Path, job: str) -> None:
    command = ["bash", str(scripts / f"train_{job}.sh"), "--num_train_epochs", "2"]
    paths = {"MODEL_PATH": "some model", "DATA_PATH": "a.json b.json@2", "OUTPUT_DIR": "out"}
    choices = {"CONV_TEMPLATE": "zephyr", "NUM_WORKERS": "3", "DEEPSPEED": "zero2"}
    done = subprocess.run(
        command, env={**os.environ, **paths, **choices}, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"{job} --model_name_or_path some model --data_path a.json b.json@2 --output_dir out "
        "--num_workers 3 --deepspeed zero2 --conv_template_name zephyr --num_train_epochs 2\n"
    )


@pytest.mark.parametrize("missing", ["MODEL_PATH", "DATA_PATH", "OUTPUT_DIR"])
def test_a_path_that_is_not_set_is_named(scripts: Path, missing: str) -> None:
    paths = {"MODEL_PATH": "m", "DATA_PATH": "d.json", "OUTPUT_DIR": "out", missing: ""}
    command = ["bash", str(scripts / "train_dpo.sh")]
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout
    assert f"error: {missing} is not set; for example:" in done.stderr
    assert "DATA_PATH=data/dummy_dpo.json OUTPUT_DIR=outputs/dpo bash scripts/train_dpo.sh" in done.stderr


def test_the_named_template_is_passed_on(scripts: Path) -> None:
    done = run(scripts, CONV_TEMPLATE="zephyr")
    assert done.stdout.endswith("--deepspeed none --conv_template_name zephyr\n") and not done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [(byte_level(adds_bos=False), "llama-3-instruct"), (metaspace(adds_bos=True), "chatml")],
)
def test_a_base_model_gets_a_template_by_its_tokens(scripts: Path, tokenizer, name: str) -> None:
    """The first tokenizer knows <|eot_id|>, the second does not."""
    tokenizer.save_pretrained(scripts.parent / "model")
    done = run(scripts)
    assert done.stdout.endswith(f"--conv_template_name {name}\n")
    assert f"has no chat template; using {name}. CONV_TEMPLATE names another" in done.stderr


@pytest.mark.slow
def test_a_template_of_its_own_is_kept(scripts: Path) -> None:
    tokenizer = byte_level(adds_bos=False)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(scripts.parent / "model")
    done = run(scripts)
    assert "--conv_template_name" not in done.stdout and not done.stderr


@pytest.mark.parametrize("flags", [["--conv_template_name", "zephyr"], ["--config=sft.yaml"]])
def test_flags_that_may_name_a_template_come_first(scripts: Path, flags: list[str]) -> None:
    byte_level(adds_bos=False).save_pretrained(scripts.parent / "model")
    done = run(scripts, *flags)
    assert done.stdout.endswith(" ".join(["--deepspeed", "none", *flags]) + "\n") and not done.stderr
