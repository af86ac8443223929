"""The loop's real parts without a model: scorers as verifiers, one model's engines at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from autoalign.algorithms import Ask
from autoalign.alignment import checks, local
from autoalign.alignment.local import EngineSampler, JobTrainer
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError, UnknownName
from autoalign.records import Message
from autoalign.sampling.engines.base import Completion, GenerationRequest
from autoalign.sampling.pool import Outcome
from autoalign.synthesizing import engines
from autoalign.training.task import TrainReport
from tests.scripted_models import prompt
from tests.unit.chat_tokenizers import byte_level


def test_a_scorer_is_a_verifier() -> None:
    verify = checks.verifier("numeric", {})
    asked = prompt("2 + 2?", reference="4")
    assert [verify(asked, text) for text in ("so it is 4", "#### 5", "no idea")] == [True, False, False]
    assert verify(prompt("2 + 2?"), "4") is None


def test_a_verifier_takes_its_scorers_options() -> None:
    brief = checks.verifier("length", {"unit": "words", "longest": 3})
    assert [brief(prompt("?"), text) for text in ("one two three", "one two three four")] == [True, False]
    with pytest.raises(ConfigError, match="did you mean 'longest'"):
        checks.verifier("length", {"longst": 3})
    with pytest.raises(UnknownName, match="did you mean 'numeric'"):
        checks.verifier("numerics", {})


@pytest.mark.parametrize(("text", "number"), [("so 1,200.", "1200"), ("\\boxed{1/2}", "1/2"), ("none", None)])
def test_what_a_solution_comes_to(text: str, number: str | None) -> None:
    extract = checks.extractor("numeric")
    assert extract is not None and extract(text) == number


def test_what_a_solution_comes_to_is_read_as_its_verifier_reads_it() -> None:
    choice, math = checks.extractor("choice"), checks.extractor("math")
    assert choice is not None and choice("Step 2 rules out A, so the answer is (B).") == "B"
    assert math is not None and math("so $\\frac{1}{2}$") == math("it is $\\frac{2}{4}$") == "1/2"
    assert checks.extractor("regex") is None


class Pool:
    """Says which model it is, and how it was asked."""

    def __init__(self, name: str) -> None:
        self._name = name

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Outcome]:
        for number, request in enumerate(requests):
            text = f"{self._name} {request.params.temperature} {request.params.top_p}"
            yield Outcome(number, Completion(text, "stop", 1, 1), None)


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Model folders `one`, `two` and `three`; the list names those whose engines were started, and ended."""
    started: list[str] = []

    def start(config: Any, setup: Any, stack: Any) -> Pool:
        started.append(config.name)
        stack.callback(started.append, f"{config.name} ended")
        return Pool(config.name)

    monkeypatch.setattr(engines, "start", start)
    for name in ("one", "two", "three"):
        folder = tmp_path / name
        byte_level(adds_bos=False).save_pretrained(folder)
        (folder / "config.json").write_text('{"max_position_embeddings": 512}')
        (folder / "model.safetensors").write_text(name)
    return started


VALUES = {
    "model_name_or_path": "one", "output_dir": "out", "algorithm": "rlcd", "prompt_path": "p.jsonl",
    "metric": "judge", "backend": "fake", "template": "chatml", "temperature": 0.8, "top_p": 0.95,
}  # fmt: skip


def sampler_of(**keys: Any) -> EngineSampler:
    return EngineSampler(AlignConfig.build({**VALUES, **keys}))


@pytest.fixture
def sampler(started: list[str]) -> tuple[EngineSampler, list[str]]:
    """One model's engines at a time."""
    return sampler_of(), started


def ask(key: str, model: str = "policy", **how: float) -> Ask:
    return Ask(key, (Message("user", "Why?"),), model, **how)


def test_roles_with_the_same_model_share_its_engines(sampler, tmp_path: Path) -> None:
    """The policy and the judge are one model, so both are asked before the strong one takes its place."""
    sample, started = sampler
    models = {
        "policy": str(tmp_path / "one"),
        "judge": str(tmp_path / "one"),
        "strong": str(tmp_path / "two"),
    }
    asks = [ask("a"), ask("b", "strong"), ask("c", "judge", temperature=0.0), ask("d", top_p=0.5)]
    said = [reply.text for reply in sample(models, asks, tmp_path / "texts.jsonl")]
    assert said == ["one 0.8 0.95", "two 0.8 0.95", "one 0.0 0.95", "one 0.8 0.5"]
    sample.release()
    assert started == ["one", "one ended", "two", "two ended"]


def test_kept_texts_start_no_engine(sampler, tmp_path: Path) -> None:
    sample, started = sampler
    models, store = {"policy": str(tmp_path / "one")}, tmp_path / "texts.jsonl"
    first = sample(models, [ask("a")], store)
    sample.release()
    del started[:]
    assert sample(models, [ask("a")], store) == first and started == []
    sample({"policy": str(tmp_path / "two")}, [ask("a")], store)
    assert started == ["two"]


def test_texts_are_asked_for_again_where_other_tokens_end_them(sampler, tmp_path: Path) -> None:
    sample, started = sampler
    models, store = {"policy": str(tmp_path / "one")}, tmp_path / "texts.jsonl"
    sample(models, [ask("a")], store)
    (tmp_path / "one" / "generation_config.json").write_text('{"eos_token_id": 7}')
    sample.release()
    del started[:]
    sample(models, [ask("a")], store)
    assert started == ["one"]


def test_side_by_side_the_engines_of_all_roles_stay_up(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge of its own, the policy and the first model: three at most, under one Ray session."""
    sessions: list[str] = []

    @contextmanager
    def session(config: Any, models: int) -> Iterator[None]:
        sessions.append(f"up for {models}")
        yield
        sessions.append("down")

    monkeypatch.setattr(engines, "session", session)
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    sample, store = sampler_of(side_by_side=True, models={"judge": two}), tmp_path / "texts.jsonl"
    sample({"policy": one, "judge": two}, [ask("a"), ask("b", "judge")], store)
    sample({"policy": three, "judge": two}, [ask("c"), ask("d", "judge")], store)
    assert started == ["one", "two", "three"] and sessions == ["up for 3"]
    sample.release()
    assert started[3:] == ["two ended", "three ended", "one ended"] and sessions == ["up for 3", "down"]


def test_side_by_side_the_model_that_was_not_asked_for_longest_makes_room(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without roles of their own two are up: the last policies."""
    monkeypatch.setattr(engines, "session", lambda *_: nullcontext())
    sample, store = sampler_of(side_by_side=True), tmp_path / "texts.jsonl"
    for key, name in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "three")):
        sample({"policy": str(tmp_path / name)}, [ask(key)], store)
    assert started == ["one", "two", "two ended", "three"]


@pytest.mark.parametrize(
    ("keys", "joined"),
    [({}, []), ({"ray_address": "head:6379", "num_replicas": 3}, [("head:6379", 3), "trained", "left"])],
)
def test_a_training_joins_the_cluster_of_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], joined: list[Any]
) -> None:
    """Trainings know RAY_ADDRESS alone, and would start a cluster of their own."""
    from autoalign.training import run as training

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    happened: list[Any] = []

    @contextmanager
    def session(address: str, min_cpus: int) -> Iterator[None]:
        happened.append((address, min_cpus))
        yield
        happened.append("left")

    def run(config: Any) -> TrainReport:
        happened.append("trained")
        return TrainReport(Path(config.output_dir), steps=2, tokens=30, seconds=1.0, loss=0.5)

    monkeypatch.setattr(local, "ray_session", session)
    monkeypatch.setattr(training, "run", run)
    config = AlignConfig.build({**VALUES, **keys})
    figures = JobTrainer(config)(1, "one", [str(tmp_path / "data.jsonl")], tmp_path / "out")
    assert figures["steps"] == 2
    assert happened == (joined or ["trained"])
