"""`score` on a tiny reward model: training's rewards, in the input's order, for every kind of file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.cli.main import main  # noqa: E402
from autoalign.config.rm import RMConfig  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from tests.tiny import save_tiny_model  # noqa: E402

pytestmark = pytest.mark.slow

PAIRS = [
    {
        "prompt": f"What is {i} plus {i}?",
        "chosen": f"It is {2 * i}.",
        "rejected": "No. " * (1 + i % 4) + "Ah.",
    }
    for i in range(10)
]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("data") / "pairs.jsonl", PAIRS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> Path:
    """A reward model that was evaluated on its pairs when it was done."""
    folder = tmp_path_factory.mktemp("trained")
    config = RMConfig(
        model_name_or_path=str(save_tiny_model(folder / "base")),
        data_path=[str(pairs)],
        eval_data_path=[str(pairs)],
        output_dir=str(folder / "rm"),
        cache_dir=str(folder / "cache"),
        conv_template_name="chatml",
        bf16=False,
        launcher="local",
        max_steps=20,
        learning_rate=1e-3,
    )
    return run(config).output_dir


@pytest.fixture
def score(trained: Path, tmp_path: Path):
    def call(data: Path, *flags: str) -> list[dict[str, Any]]:
        output = tmp_path / "new" / "scores.jsonl"
        words = ["--model_path", str(trained), "--data_path", str(data), "--output_file", str(output)]
        assert main(["score", *words, "--overwrite", *flags]) == 0
        return _read(output)

    return call


def test_pairs_get_the_rewards_of_training(score, trained: Path, pairs: Path, capsys):
    rows = score(pairs, "--batch_size", "3")
    last = read_metrics(trained / "metrics.jsonl")[-1]
    chosen, rejected = ([row[f"reward_{side}"] for row in rows] for side in ("chosen", "rejected"))
    assert sum(chosen) / 10 == pytest.approx(last["eval_rewards/chosen"], abs=1e-5)
    assert sum(rejected) / 10 == pytest.approx(last["eval_rewards/rejected"], abs=1e-5)
    right = sum(c > r for c, r in zip(chosen, rejected, strict=True)) / 10
    assert right == pytest.approx(last["eval_rewards/accuracies"])
    assert f"accuracy {right:.1%}" in capsys.readouterr().out


def test_reward_bench_finds_trainings_accuracy(trained: Path, pairs: Path, tmp_path: Path):
    places = ["--output_dir", str(tmp_path / "out"), "--config_dir", str(tmp_path / "configs")]
    words = ["--model_path", str(trained), "--reward_model", str(trained), "--model_id", "rm", *places]
    assert main(["eval", *words, "--benchmarks", f"reward_bench={pairs}"]) == 0
    (result,) = json.loads((tmp_path / "out" / "rm" / "results.json").read_text())
    last = read_metrics(trained / "metrics.jsonl")[-1]
    assert result["value"] == pytest.approx(100 * last["eval_rewards/accuracies"])


def test_rows_keep_their_fields_and_their_order(score, pairs: Path):
    rows = score(pairs)
    without = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
    assert without == PAIRS


def test_an_answer_has_one_reward_alone_in_a_pair_and_in_any_batch(score, pairs: Path, tmp_path: Path):
    in_pairs = [row["reward_chosen"] for row in score(pairs)]
    rows = [{"messages": _turns(row["prompt"], row["chosen"]), "note": "kept"} for row in PAIRS]
    alone = score(_write(tmp_path / "chosen.jsonl", rows), "--batch_size", "1")
    assert [row["reward"] for row in alone] == pytest.approx(in_pairs, abs=1e-5)
    assert {row["note"] for row in alone} == {"kept"}


def test_padding_changes_nothing(score, pairs: Path):
    flat = [row["reward_rejected"] for row in score(pairs)]
    padded = [row["reward_rejected"] for row in score(pairs, "--attn_implementation", "sdpa")]
    assert padded == pytest.approx(flat, abs=1e-5)


def test_what_infer_wrote_is_scored(score, tmp_path: Path):
    sample = {
        "id": "a-0",
        "prompt_id": "a",
        "index": 0,
        "messages": _turns("What is 1 plus 1?", "It is 2."),
        "text": "It is 2.",
        "finish_reason": "stop",
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "seed": None,
        "model": "m",
        "source": "m",
    }
    (row,) = score(_write(tmp_path / "samples.jsonl", [sample]))
    reward = row.pop("reward")
    assert isinstance(reward, float)
    assert row.pop("scores") == {"reward_model": reward}
    assert row == sample


def test_answers_that_are_cut_off_are_counted(score, pairs: Path, capsys):
    score(pairs, "--max_length", "40")
    assert "answers were cut off at max_length" in capsys.readouterr().out


def test_an_output_that_exists_is_kept(trained: Path, pairs: Path, tmp_path: Path, capsys):
    output = tmp_path / "scores.jsonl"
    output.write_text("mine\n")
    words = ["--model_path", str(trained), "--data_path", str(pairs), "--output_file", str(output)]
    assert main(["score", *words]) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        (
            [{"messages": [*_turns("a", "b"), {"role": "user", "content": "c"}]}],
            [],
            "rows.jsonl:1: messages: the last",
        ),
        ([{"messages": _turns("a", "")}], [], "the answer is empty"),
        ([{"messages": _turns("a", "b")}], ["--template", "chatmll"], "chatmll"),
        ([{"messages": _turns("a", "b")}], ["--batch_size", "0"], "batch_size"),
    ],
)
def test_what_cannot_be_scored_is_refused(trained: Path, tmp_path: Path, capsys, rows, flags, message):
    data = _write(tmp_path / "rows.jsonl", rows)
    output = tmp_path / "scores.jsonl"
    words = ["--model_path", str(trained), "--data_path", str(data), "--output_file", str(output)]
    assert main(["score", *words, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_reward_and_a_verifier_in_one_run(score, tmp_path: Path):
    rows = [{"messages": _turns("1 + 1?", "It is 2."), "reference": 2}]
    (row,) = score(_write(tmp_path / "rows.jsonl", rows), "--scorer", "reward_model", "length")
    assert row["scores"] == {"reward_model": row["reward"], "length": 8.0}


def test_a_weight_is_refused(trained: Path, pairs: Path, tmp_path: Path, capsys):
    words = ["--model_path", str(trained), "--data_path", f"{pairs}@2", "--output_file", str(tmp_path / "o")]
    assert main(["score", *words]) == 2
    assert "is for training" in capsys.readouterr().err


def test_a_language_model_is_refused(trained: Path, pairs: Path, tmp_path: Path, capsys):
    words = ["--model_path", str(trained.parent / "base"), "--data_path", str(pairs)]
    assert main(["score", *words, "--output_file", str(tmp_path / "o")]) == 2
    assert "no reward model (its architecture is LlamaForCausalLM)" in capsys.readouterr().err
