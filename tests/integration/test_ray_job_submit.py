"""`ray job submit --working-dir .` against a local head with token authentication."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import ray_head

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
UPLOAD_LIMIT = 20_000_000  # bytes

# Run by the job: what was uploaded, and where the driver and a Ray worker find the package.
LOOK_AROUND = """
import json, pathlib, sys
sys.path.insert(0, str(pathlib.Path.cwd()))
import ray, autoalign
ray.init()
there = [path for path in pathlib.Path.cwd().rglob("*") if path.is_file()]
@ray.remote(num_cpus=1)
def found():
    import autoalign
    return autoalign.__file__
print("SEEN:" + json.dumps({
    "cwd": str(pathlib.Path.cwd()),
    "names": sorted(path.name for path in pathlib.Path.cwd().iterdir()),
    "bytes": sum(path.stat().st_size for path in there),
    "driver": autoalign.__file__,
    "worker": ray.get(found.remote()),
}))
"""


@pytest.fixture(scope="module")
def head():
    with ray_head.running_head() as running:
        yield running


def submit(head, *entrypoint, env=None):
    words = f"job submit --working-dir . --address {head.address} --"
    command = [ray_head.RAY, *words.split(), *entrypoint]
    return subprocess.run(command, cwd=ROOT, env=env or head.env, capture_output=True, text=True, timeout=400)


def test_models_and_environments_stay_here_and_the_package_goes_along(head):
    done = submit(head, "python", "-c", LOOK_AROUND)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "SEEN:{" in line)
    seen = json.loads(line.partition("SEEN:")[2])
    assert {"autoalign", "configs", "data", "ray_jobs", "pyproject.toml"} <= set(seen["names"])
    assert not {"models", "outputs", "logs", ".git", ".venv", ".venv-eval", "shared"} & set(seen["names"])
    assert seen["bytes"] < UPLOAD_LIMIT
    # Not the installed package: the one that was uploaded, for the driver and for every worker.
    assert seen["driver"].startswith(seen["cwd"])
    assert "working_dir_files" in seen["worker"]


def test_without_the_token_the_cluster_says_no(head):
    env = {**head.env, "RAY_AUTH_MODE": "disabled"}
    done = submit(head, "true", env=env)
    assert done.returncode != 0
    assert "token authentication is enabled" in done.stderr


def test_wrong_input_fails_the_job_with_its_message(head):
    done = submit(head, "python", "ray_jobs/sft.py", "--learning_rat", "1")
    assert done.returncode != 0
    assert "unknown flag '--learning_rat' (did you mean '--learning_rate'?)" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def tiny_model(demo_model, tmp_path_factory):
    """A random two-layer model with the demo model's tokenizer."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    config = transformers.AutoConfig.from_pretrained(demo_model)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config.update({**small, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(demo_model).save_pretrained(folder)
    return folder


def test_sft_runs_on_the_cluster(head, tiny_model, tmp_path):
    flags = f"--model_name_or_path {tiny_model} --data_path data/dummy_sft.json --output_dir {tmp_path}/out"
    flags += " --max_steps 2 --model_max_length 256 --per_device_train_batch_size 2 --bf16 false"
    done = submit(head, "python", "ray_jobs/sft.py", *flags.split(), "--cache_dir", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert steps[:2] == [1, 2]
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_sampling_runs_on_the_cluster_and_a_second_job_makes_nothing_again(head, tiny_model, tmp_path):
    flags = f"--backend fake --model_path {tiny_model} --test_file data/dummy_sft.json --n 2 --temperature 1"
    flags += f" --output_file {tmp_path}/out/answers.jsonl"
    for said in ("infer", "16 of 16 answers are there, 0 to be made"):
        done = submit(head, "python", "ray_jobs/sample.py", "--limit", "8", *flags.split())
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert said in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").open()]
    assert [row["index"] for row in rows] == [0, 1] * 8
    assert all(row["text"].startswith("echo: ") for row in rows)


def test_evaluation_runs_on_the_cluster(head, tiny_model, tmp_path):
    quiz = {"name": "quiz", "scorer": "length", "options": {"longest": 100_000}, "max_new_tokens": 4}
    (tmp_path / "quiz.yaml").write_text(yaml.safe_dump({**quiz, "questions": [{"question": "Hm?"}]}))
    flags = f"--model_path {tiny_model} --backend hf --benchmarks {tmp_path}/quiz.yaml --model_id tiny_1"
    flags += f" --output_dir {tmp_path}/out --config_dir {tmp_path}/configs"
    done = submit(head, "python", "ray_jobs/evaluate.py", *flags.split())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "quiz accuracy  |" in done.stdout
    (result,) = json.loads((tmp_path / "out" / "tiny_1" / "results.json").read_text())
    assert (result["value"], result["count"]) == (100.0, 1)


def test_alignment_runs_on_the_cluster_and_a_second_job_runs_nothing(head, tiny_model, tmp_path):
    """The recipe of RLCD over the engine that says back what it is shown, changed in its few lines."""
    recipe = yaml.safe_load((ROOT / "configs" / "align" / "rlcd.yaml").read_text())
    training = {"max_steps": 2, "model_max_length": 256, "bf16": False, "launcher": "local"}
    sizes = {"prompts_per_round": 4, "held_out": 4, "benchmark_limit": 4, "promote_when": "not_worse"}
    keys = {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "out"), "backend": "fake"}
    keys |= {"principles": ["Be brief."], "training": {**training, "cache_dir": str(tmp_path / "cache")}}
    config = tmp_path / "align.yaml"
    config.write_text(yaml.safe_dump({**recipe, **sizes, **keys}))
    # Data, answers of the policy (which is the first model), training, answers of the new one, evaluation.
    for said, times in ((": running", 5), (": done before, ", 6)):
        done = submit(head, "python", "ray_jobs/align.py", "--config", str(config))
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert sum("align: " in line and said in line for line in done.stdout.splitlines()) == times
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [each["verdict"] for each in report["rounds"]] == ["promoted"]
