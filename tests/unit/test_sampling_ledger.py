"""What a rerun finds again: keys, rows of earlier runs, torn files, full disks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError
from autoalign.records import Conversation, Message
from autoalign.sampling.collector import Collector
from autoalign.sampling.engines.base import EngineOptions, SamplingParams, derive_seed
from autoalign.sampling.keys import AnswerKeys
from autoalign.sampling.messages import Answer
from autoalign.sampling.output import AnswerStore
from autoalign.sampling.places import NameSet, Places
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.prompts import PlainRenderer, Prompt, prepare
from autoalign.sampling.report import SampleReport
from autoalign.sampling.simulator import UserSimulator
from autoalign.sampling.turns import Turns
from autoalign.sampling.worker import WorkerSpec

PROMPT = Prompt(0, "q", ({"role": "user", "content": "a"},), (1, 2, 3))
OTHER_MODEL = AnswerKeys(job=bytes(range(32)))


def spec(**values: Any) -> WorkerSpec:
    options = EngineOptions("gpt-x", **{k: v for k, v in values.items() if k in ("dtype", "concurrency")})
    params = SamplingParams(temperature=values.get("temperature", 1.0))
    return WorkerSpec(values.get("backend", "openai"), options, params, values.get("seed", 7))


def key(prompt: Prompt = PROMPT, index: int = 0, **values: Any) -> bytes:
    return AnswerKeys.of_job(spec(**values)).key(prompt, index)


@pytest.mark.parametrize(
    "other",
    [
        {"index": 1},
        {"temperature": 0.5},
        {"seed": 8},
        {"dtype": "float32"},
        {"prompt": replace(PROMPT, token_ids=(1, 2, 4))},
        {"prompt": replace(PROMPT, id="r")},
    ],
)
def test_another_answer_has_another_key(other: dict[str, Any]) -> None:
    assert key(**other) != key()


def test_conversations_of_several_turns_have_the_same_keys_in_the_next_process() -> None:
    """Renderers are objects: where one lies in memory is no part of a key; what the user is told is."""

    def turns_key(prompt: str) -> bytes:
        user = UserSimulator(PlainRenderer(), SamplingParams(), prompt)
        turns = Turns(2, PlainRenderer(), user)
        return AnswerKeys.of_job(replace(spec(), turns=turns)).key(PROMPT, 0)

    assert turns_key("Ask on.") == turns_key("Ask on.") != turns_key("Object.")


def test_how_an_answer_is_made_and_where_its_prompt_stands_is_no_part_of_its_key() -> None:
    moved = replace(PROMPT, index=9, extra={"topic": "x"}, renamed=True)
    assert key(moved, concurrency=3) == key()


def test_a_greedy_answer_does_not_depend_on_id_and_seed() -> None:
    greedy = {"temperature": 0.0}
    assert key(replace(PROMPT, id="r"), seed=8, **greedy) == key(**greedy)


def test_a_greedy_conversation_depends_on_them_through_its_user() -> None:
    keys = AnswerKeys(several_turns=True)
    assert keys.key(PROMPT, 0) != keys.key(replace(PROMPT, id="r"), 0)


def test_a_key_is_a_digest_of_lengths_and_parts() -> None:
    """Worked out here as docs/sampling.md tells it, so that the ledgers of earlier versions stay good."""

    def framed(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts)

    way, job = SamplingParams(temperature=0.5), bytes(range(32))
    told = json.dumps(asdict(way), sort_keys=True, separators=(",", ":")).encode()
    prompt = Prompt(9, "p7", ({"role": "user", "content": "x"},), (5, 600))
    ids = (5).to_bytes(8, "little") + (600).to_bytes(8, "little")
    seed = str(derive_seed(42, "p7", 3)).encode()
    parts = (job, hashlib.blake2b(framed(told), digest_size=16).digest(), ids, b"3", seed)
    expected = hashlib.blake2b(framed(*parts), digest_size=12).digest() + job[:4]
    assert AnswerKeys(job, (way,)).key(prompt, 3) == expected


def test_the_models_weights_are_in_the_key(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    keys = []
    for content in (b"weights", b"weighty"):
        (tmp_path / "model.safetensors").write_bytes(content)
        fake = WorkerSpec("fake", EngineOptions(str(tmp_path)), SamplingParams(), 7)
        keys.append(AnswerKeys.of_job(fake).key(PROMPT, 0))
    assert keys[0] != keys[1]


def config(folder: Path, **values: Any) -> InferConfig:
    given = {"model_path": "m", "test_file": "q.json", "output_file": str(folder / "out.jsonl")}
    return InferConfig.build({**given, **values})


def asked(*texts: str, **extra: Any) -> list[Conversation]:
    return [Conversation(text, (Message("user", text),), extra=extra) for text in texts]


def sample(
    config: InferConfig,
    conversations: Iterable[Conversation],
    stop_after: int | None = None,
    keys: AnswerKeys | None = None,
) -> tuple[SampleReport | None, list[str]]:
    """One job: its report (None where it is stopped), and the prompts that it had answered."""
    made = []
    try:
        with Collector(config, keys=keys) as collector:
            collector.expect(prepare(conversations, PlainRenderer()))
            for prompt, wanted in collector.open_tasks():
                for index in wanted:
                    if len(made) == stop_after:
                        raise KeyboardInterrupt
                    made.append(f"{prompt.id}-{index}")
                    text = f"{prompt.id} said {index}"
                    given = Answer(prompt.index, index, text, "stop", 2, 3, 5, None, 1.0)
                    collector.take([given, given], SampleProgress(1))
            return collector.finish(0.0), made
    except KeyboardInterrupt:
        return None, made


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_stopped_job_goes_on_and_ends_with_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = config(tmp_path / "a", n=2), config(tmp_path / "b", n=2)
    sample(whole, asked("x", "y", "z", topic=1))
    assert sample(broken, asked("x", "y", "z", topic=1), stop_after=4)[0] is None
    report, made = sample(broken, asked("x", "y", "z", topic=1))
    assert made == ["z-0", "z-1"]
    assert report is not None
    assert (report.answers, report.reused) == (6, 4)
    assert broken.output_path.read_bytes() == whole.output_path.read_bytes()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["out.jsonl"]


def test_a_finished_job_makes_nothing_again(tmp_path: Path) -> None:
    job = config(tmp_path)
    sample(job, asked("x", "y"))
    before = job.output_path.read_bytes()
    assert sample(job, asked("x", "y"))[1] == []
    assert job.output_path.read_bytes() == before


def test_more_prompts_in_another_order_cost_only_the_new_ones(tmp_path: Path) -> None:
    job = config(tmp_path)
    sample(job, asked("x", "y"))
    assert sample(job, asked("y", "new", "x", topic="t"))[1] == ["new-0"]
    rows = rows_of(job.output_path)
    assert [row["text"] for row in rows] == ["y said 0", "new said 0", "x said 0"]
    assert all(row["extra"] == {"topic": "t"} for row in rows)


def test_more_answers_each_cost_only_the_new_ones(tmp_path: Path) -> None:
    sample(config(tmp_path), asked("x", "y"))
    assert sample(config(tmp_path, n=2), asked("x", "y"))[1] == ["x-1", "y-1"]


@pytest.mark.parametrize(
    ("values", "keys", "why"),
    [
        ({}, OTHER_MODEL, "another model, engine or other options"),
        ({"limit": 1}, None, "other prompts or parameters, or beyond --n or --limit"),
    ],
)
def test_answers_that_would_be_lost_stop_the_job(
    tmp_path: Path, values: dict[str, Any], keys: AnswerKeys | None, why: str
) -> None:
    sample(config(tmp_path), asked("x", "y"))
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=f"that this job does not ask for .*{why}.*--overwrite"):
        sample(config(tmp_path, **values), asked("x", "y")[: values.get("limit")], keys=keys)
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_overwrite_drops_only_what_is_not_asked_for(tmp_path: Path) -> None:
    sample(config(tmp_path), asked("x", "y"))
    assert sample(config(tmp_path, overwrite=True), asked("y", "z"))[1] == ["z-0"]
    assert [row["id"] for row in rows_of(tmp_path / "out.jsonl")] == ["y-0", "z-0"]


def test_overwrite_reuses_nothing_of_another_model(tmp_path: Path) -> None:
    sample(config(tmp_path), asked("x"))
    assert sample(config(tmp_path, overwrite=True), asked("x"), keys=OTHER_MODEL)[1] == ["x-0"]


def test_fresh_makes_everything_again(tmp_path: Path) -> None:
    sample(config(tmp_path), asked("x", "y"))
    sample(config(tmp_path), asked("x", "y", "z"), stop_after=0)
    assert sample(config(tmp_path, fresh=True), asked("x"))[1] == ["x-0"]
    assert [row["id"] for row in rows_of(tmp_path / "out.jsonl")] == ["x-0"]


def test_a_file_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('{"precious": 1}\n')
    with pytest.raises(ConfigError, match="holds 1 answers that this job does not ask for"):
        sample(config(tmp_path), asked("x"))
    assert (tmp_path / "out.jsonl").read_text() == '{"precious": 1}\n'


@pytest.mark.parametrize("torn", [b'{"id": "y-0", "text": "y sa', b'{"id": "y', b"\0\0\0\0"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    job = config(tmp_path)
    sample(job, asked("x", "y"), stop_after=1)
    with (tmp_path / "out.jsonl.partial").open("ab") as file:
        file.write(torn)
    assert sample(job, asked("x", "y"))[1] == ["y-0"]
    assert [row["id"] for row in rows_of(job.output_path)] == ["x-0", "y-0"]


def test_rows_that_a_tool_has_written_anew_are_found(tmp_path: Path) -> None:
    job = config(tmp_path)
    sample(job, asked("x", "y"))
    rows = [dict(sorted(row.items())) for row in rows_of(job.output_path)]
    job.output_path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    assert sample(job, asked("x", "y"))[1] == []


def test_what_a_killed_job_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / ".out.jsonl.77.tmp").write_text("half")
    sample(config(tmp_path), asked("x"))
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_second_job_on_the_same_output_is_refused(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "out.jsonl.partial")
    with pytest.raises(ConfigError, match="another job is at work"):
        sample(config(tmp_path), asked("x"))
    store.close()


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes 10 bytes of the second line, and no more."""
    store = AnswerStore(tmp_path / "out")
    for name in (b"a" * 16, b"b" * 16):
        store.expect(name)
    store.add(0, {"id": "a"})
    store.flush()
    room = iter([10])

    def write(descriptor: int, data: memoryview) -> int:
        if (left := next(room, None)) is None:
            raise OSError(28, "No space left on device")
        return os_write(descriptor, data[:left])

    os_write = os.write
    monkeypatch.setattr("autoalign.sampling.places.os.write", write)
    store.add(1, {"id": "b"})
    with pytest.raises(OSError, match="No space"):
        store.flush()
    assert (store.done, (tmp_path / "out").read_text()) == (1, '{"id":"a"}\n')


def test_an_error_has_the_key_that_its_answer_would_have(tmp_path: Path) -> None:
    job = config(tmp_path, n=2)
    with Collector(job) as collector:
        collector.expect(prepare(asked("x"), PlainRenderer()))
        given = Answer(0, 1, "", "error", 2, 0, 5, "engine trouble", 1.0)
        collector.take([given, given], SampleProgress(2))
        collector.take([replace(given, index=0, error=None)], SampleProgress(2))
        assert (collector.failed, collector.missing) == (1, 0)
        collector.finish(0.0)
    (error,) = rows_of(tmp_path / "errors.jsonl")
    (row,) = rows_of(job.output_path)
    prompt = next(iter(prepare(asked("x"), PlainRenderer())))
    assert isinstance(prompt, Prompt)
    assert (error["id"], error["key"]) == ("x-1", AnswerKeys().key(prompt, 1).hex())
    assert (row["id"], row["key"]) == ("x-0", AnswerKeys().key(prompt, 0).hex())


def test_a_failed_answer_is_asked_for_again(tmp_path: Path) -> None:
    job = config(tmp_path)
    with Collector(job) as collector:
        collector.expect(prepare(asked("x", "y"), PlainRenderer()))
        given = Answer(0, 0, "", "stop", 2, 0, 5, None, 1.0)
        collector.take([given, replace(given, prompt=1, error="no")], SampleProgress(2))
        collector.finish(0.0)
    assert sample(job, asked("x", "y"))[1] == ["y-0"]
    assert not (tmp_path / "errors.jsonl").exists()


def test_numbers_are_kept_in_a_file(tmp_path: Path) -> None:
    places = Places(tmp_path)
    for number in range(20_000):
        places.append(number - 1)
    places[3] = places[19_999] = 1 << 40
    assert (len(places), places[0], places[3], places[8192], places[19_999]) == (
        20_000,
        -1,
        1 << 40,
        8191,
        1 << 40,
    )
    assert sum(1 for _ in places) == 20_000
    assert list(tmp_path.iterdir()) == []


def test_names_are_known_again() -> None:
    names = NameSet()
    assert all(names.add(f"n{number}") for number in range(5000))
    assert not any(names.add(f"n{number}") for number in range(5000))


def test_a_name_given_to_a_copy_is_not_given_twice() -> None:
    twice = [Conversation(name, (Message("user", "a"),)) for name in ("x", "x#2", "x", "x")]
    assert [prompt.id for prompt in prepare(twice, PlainRenderer())] == ["x", "x#2", "x#3", "x#4"]
