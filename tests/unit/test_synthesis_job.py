"""The job around a method: seeds from files, texts kept for the next run, rows in their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from autoalign import chat, formats, synthesis
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.errors import ConfigError, DataError, JobFailed
from autoalign.records import Message
from autoalign.sampling.engines.base import Completion, EngineOptions, GenerationRequest, SamplingParams
from autoalign.sampling.pool import Outcome
from autoalign.sampling.prompts import PlainRenderer
from autoalign.sampling.setup import Setup
from autoalign.synthesis import Ask, Reply, Row, Seed
from autoalign.synthesizing import run as job
from autoalign.synthesizing.rows import RowFiles
from autoalign.synthesizing.seeds import read_seeds
from autoalign.synthesizing.texts import TextStore
from autoalign.synthesizing.writer import Writer
from tests.unit.chat_tokenizers import byte_level, metaspace


class Echo:
    """Engines that finish the last request first; say the prompt back, and fail on `no`."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Outcome]:
        self.requests += requests
        for number, request in reversed(list(enumerate(requests))):
            said = request.messages[-1]["content"]
            if said == "no":
                yield Outcome(number, None, "I won't")
            else:
                yield Outcome(number, Completion(f" {said}! ", "stop", 1, 2), None)


def ask(key: str, text: str, greedy: bool = False) -> Ask:
    return Ask(key, (Message("user", text),), temperature=0.0 if greedy else None)


def writer(store: TextStore, engines: Any, seed: int = 1) -> Writer:
    setup = Setup(EngineOptions("m"), SamplingParams(temperature=0.7), PlainRenderer())
    return Writer(setup, seed, "model", store, lambda: engines)


def test_replies_come_in_the_order_of_the_asks(tmp_path: Path) -> None:
    with TextStore(tmp_path / "t.jsonl") as store:
        write = writer(store, Echo())
        replies = write([ask("1", "a"), ask("2", "no"), ask("3", "b")])
    assert replies == [Reply("a!"), Reply("", "error"), Reply("b!")]
    assert (write.asked, write.output_tokens, write.errors) == (3, 4, {"I won't": 1})


def test_a_text_is_asked_for_once_in_all_runs_and_a_failed_one_again(tmp_path: Path) -> None:
    engines = Echo()
    for _ in range(2):
        with TextStore(tmp_path / "t.jsonl") as store:
            writer(store, engines)([ask("1", "a"), ask("2", "no")])
    assert [request.id for request in engines.requests] == ["1", "2", "2"]


@pytest.mark.parametrize("other", [ask("2", "a"), ask("1", "b"), ask("1", "a", greedy=True)])
def test_another_key_prompt_or_temperature_is_another_text(tmp_path: Path, other: Ask) -> None:
    engines = Echo()
    with TextStore(tmp_path / "t.jsonl") as store:
        writer(store, engines)([ask("1", "a")])
        writer(store, engines)([other])
    assert len(engines.requests) == 2


def test_a_greedy_ask_has_temperature_zero(tmp_path: Path) -> None:
    engines = Echo()
    with TextStore(tmp_path / "t.jsonl") as store:
        writer(store, engines)([ask("1", "a", greedy=True), ask("2", "a")])
    assert [request.params.temperature for request in engines.requests] == [0.0, 0.7]


def test_a_torn_line_of_a_killed_run_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    keys = ["00" * 16, "11" * 16]
    with TextStore(path) as store:
        for key in keys:
            store.add(key, Reply(key))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with TextStore(path) as store:
        assert (store.get(keys[0]), store.get(keys[1])) == (Reply(keys[0]), None)
        store.add(keys[1], Reply(keys[1]))
    assert path.read_bytes() == whole


def test_two_jobs_at_one_output_are_refused(tmp_path: Path) -> None:
    with TextStore(tmp_path / "t.jsonl"), pytest.raises(ConfigError, match="another job"):
        TextStore(tmp_path / "t.jsonl")


def test_rows_go_to_the_output_or_to_the_dropped_ones(tmp_path: Path) -> None:
    pair = (Message("user", "Q"), Message("assistant", "A"))
    with RowFiles(tmp_path / "x.jsonl", "magpie", "m") as files:
        files.add(Row("1", pair, facts={"score": 5}))
        files.add(Row("2", (), "cut off"))
        assert not (tmp_path / "x.jsonl").exists()
        files.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.dropped.jsonl", "x.jsonl"]
    (record,) = formats.load(tmp_path / "x.jsonl", kind="sft").records
    assert (record.id, record.messages) == ("1", pair)
    assert json.loads((tmp_path / "x.jsonl").read_text())["synthesis"] == {
        "method": "magpie", "model": "m", "score": 5,
    }  # fmt: skip
    assert json.loads((tmp_path / "x.dropped.jsonl").read_text())["reason"] == "cut off"
    assert (files.kept, files.made, files.reasons) == (1, 2, {"cut off": 1})


def test_a_run_that_breaks_off_leaves_no_rows(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RowFiles(tmp_path / "x.jsonl", "magpie", "m") as files:
        files.add(Row("1"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def seeds(tmp_path: Path, method: str, *rows: dict[str, Any], key: str | None = None) -> list[Seed]:
    file = tmp_path / "seeds.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_seeds(synthesis.build(method), [str(file)], key, None)


PAIR = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}


@pytest.mark.parametrize(
    ("method", "row", "key", "text"),
    [
        ("self_instruct", PAIR, None, "Q"),
        ("evol_instruct", {"prompt": "Do it"}, None, "Do it"),
        ("back_translation", PAIR, None, "A"),
        ("back_translation", {"text": "A page"}, None, "A page"),
        ("persona", {"persona": "A fisher"}, None, "A fisher"),
        ("persona", {"who": "A fisher"}, "who", "A fisher"),
    ],
)
def test_what_a_seed_is(tmp_path: Path, method: str, row: dict[str, Any], key: str | None, text: str) -> None:
    assert [seed.text for seed in seeds(tmp_path, method, row, key=key)] == [text]


def test_seeds_with_one_id_are_told_apart(tmp_path: Path) -> None:
    found = seeds(tmp_path, "persona", {"id": "x", "persona": "A"}, {"id": "x", "persona": "B"})
    assert [seed.id for seed in found] == ["x", "x#2"]


def test_a_row_without_its_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"seeds\.jsonl:2: persona: a text is expected"):
        seeds(tmp_path, "persona", {"persona": "A"}, {"persona": 7})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "magpy", "num_rows": 1}, "did you mean 'magpie'"),
        ({"method": "magpie"}, "give --num_rows"),
        ({"method": "magpie", "num_rows": 1, "seed_path": "x.jsonl"}, "takes no seeds"),
        ({"method": "persona"}, "give --seed_path"),
        ({"method": "persona", "turns": 2}, "turns is no option"),
        ({"method": "magpie", "num_rows": 1, "prompts_dir": "/nowhere"}, "no such folder of prompts"),
        (
            {"method": "magpie", "num_rows": 1, "backend": "openai", "model_name": "m"},
            "use backend vllm or hf",
        ),
    ],
)
def test_what_is_refused_before_anything_starts(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    given = {"output_file": str(tmp_path / "o.jsonl"), "model_path": "m", **values}
    with pytest.raises((ConfigError, LookupError), match=message):
        job.run(SynthesizeConfig.build(given))
    assert list(tmp_path.iterdir()) == []


def endpoint_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: Any, **values: Any) -> Any:
    """A persona job over scripted engines."""
    monkeypatch.setattr(job.engines, "start", lambda *_: engines)
    file = tmp_path / "seeds.jsonl"
    file.write_text('{"persona": "A fisher on a lake"}\n{"persona": "The baker of this town"}\n')
    given = {
        "method": "persona", "backend": "openai", "model_name": "m", "seed_path": str(file),
        "output_file": str(tmp_path / "o.jsonl"), **values,
    }  # fmt: skip
    return job.run(SynthesizeConfig.build(given))


def test_a_job_reports_what_is_in_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = endpoint_job(tmp_path, monkeypatch, Echo())
    assert (report.made, report.kept, report.asked, report.reused) == (2, 2, 4, 0)
    assert len(formats.load(report.output, kind="sft")) == 2
    told = json.loads((tmp_path / "o.report.json").read_text())
    assert (told["kept"], told["texts"]["asked"]) == (2, 4)


def test_a_job_that_is_done_again_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = endpoint_job(tmp_path, monkeypatch, Echo()).output.read_bytes()
    report = endpoint_job(tmp_path, monkeypatch, None, overwrite=True)
    assert (report.asked, report.reused, report.output.read_bytes()) == (0, 4, first)
    engines = Echo()
    endpoint_job(tmp_path, monkeypatch, engines, overwrite=True, fresh=True)
    assert len(engines.requests) == 4


def test_a_job_ends_at_num_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint_job(tmp_path, monkeypatch, Echo(), num_rows=1).kept == 1


def test_a_job_that_keeps_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Echo):
        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Outcome]:
            return (Outcome(number, None, "no power") for number in range(len(requests)))

    with pytest.raises(JobFailed, match="no power"):
        endpoint_job(tmp_path, monkeypatch, Silent())
    assert (tmp_path / "o.dropped.jsonl").exists()


# The opening of the user's turn, for Magpie.


@pytest.mark.parametrize(
    ("template", "tokenizer", "opening", "end"),
    [
        ("chatml", byte_level(adds_bos=False), "<|im_start|>user\n", "<|im_end|>"),
        (
            "llama-3-instruct",
            byte_level(adds_bos=False, eos="<|eot_id|>"),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
            "<|eot_id|>",
        ),
        ("gemma", byte_level(adds_bos=False), "<|begin_of_text|><start_of_turn>user\n", "<end_of_turn>"),
    ],
)  # fmt: skip
def test_the_opening_of_a_users_turn(template: str, tokenizer: Any, opening: str, end: str) -> None:
    found = chat.user_opening((), tokenizer, chat.get_template(template))
    assert tokenizer.decode(found.token_ids) == opening
    assert [tokenizer.decode([token]) for token in found.stop_token_ids] == [end]


def test_a_turn_that_ends_in_plain_text_stops_at_it() -> None:
    found = chat.user_opening((), metaspace(adds_bos=True), chat.get_template("vicuna_v1.1"))
    assert (found.stop_token_ids, found.stop_strings) == ((), ("ASSISTANT:",))


def test_a_conversation_so_far_stands_in_front_of_the_opening() -> None:
    tokenizer = byte_level(adds_bos=False)
    told = (Message("user", "Q"), Message("assistant", "A"))
    found = chat.user_opening(told, tokenizer, chat.get_template("chatml"))
    assert tokenizer.decode(found.token_ids) == (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\n"
    )
