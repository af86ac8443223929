"""Every shipped config begins with the command that runs it, and is accepted by that command's class."""

import json
import re

import pytest
import yaml
from sources import ROOT

from autoalign.cli.main import COMMANDS
from autoalign.config.align import AlignConfig
from autoalign.config.batch import BatchConfig
from autoalign.config.dpo import DPOConfig
from autoalign.config.evaluate import EvalConfig
from autoalign.config.grpo import GRPOConfig
from autoalign.config.merge import MergeConfig
from autoalign.config.rm import RMConfig
from autoalign.config.sample import InferConfig
from autoalign.config.score import ScoreConfig
from autoalign.config.serve import ServeConfig
from autoalign.config.sft import SFTConfig
from autoalign.config.synthesize import SynthesizeConfig

CLASSES = {
    "align": AlignConfig,
    "sft": SFTConfig,
    "dpo": DPOConfig,
    "grpo": GRPOConfig,
    "rm": RMConfig,
    "score": ScoreConfig,
    "eval": EvalConfig,
    "batch": BatchConfig,
    "infer": InferConfig,
    "merge": MergeConfig,
    "serve": ServeConfig,
    "synthesize": SynthesizeConfig,
}
YAML_FILES = sorted((ROOT / "configs").rglob("*.yaml"))
COMMAND_LINE = re.compile(r"# autoalign-cli (?P<command>\w+) --config (?P<path>\S+)")


def ids(path):
    return path.name


@pytest.mark.parametrize("path", YAML_FILES, ids=ids)
def test_a_config_names_its_command_and_is_accepted(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    named = COMMAND_LINE.match(path.read_text(encoding="utf-8").splitlines()[0])
    assert named is not None, "the first line reads: # autoalign-cli COMMAND --config configs/FILE.yaml"
    assert named["path"] == str(path.relative_to(ROOT))
    assert named["command"] in COMMANDS
    CLASSES[named["command"]].from_sources(path, {})


def test_each_job_has_an_example():
    commands = {COMMAND_LINE.match(path.read_text().splitlines()[0])["command"] for path in YAML_FILES}
    assert commands >= CLASSES.keys()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("zero*.json")), ids=ids)
def test_a_deepspeed_file_sets_the_stage_in_its_name(path):
    stage = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]["stage"]
    assert path.name == f"zero{stage}.json"


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.yaml")), ids=ids)
def test_other_yaml_begins_with_its_command(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# (ray|serve|pre-commit|docker) ", text)
    assert yaml.safe_load(text)


SERVE_FILES = sorted((ROOT / "serve").glob("*.yaml"))


@pytest.mark.parametrize("path", SERVE_FILES, ids=ids)
def test_a_serve_file_begins_with_its_command_and_its_args_are_accepted(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# serve run {path.relative_to(ROOT)} ")
    for application in yaml.safe_load(text)["applications"]:
        ServeConfig.build(application["args"])
