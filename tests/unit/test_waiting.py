"""What a job says while the cluster has no room for its engines."""

import threading
import time

import pytest
from ray.exceptions import GetTimeoutError, RayActorError

from autoalign.room import Need, Supply, lacks
from autoalign.sampling import waiting
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.replicas import Replicas, need
from autoalign.sampling.waiting import Waiting, told
from autoalign.sampling.worker import WorkerSpec

NODE = {"CPU": 8.0, "GPU": 1.0}
TAKEN = Supply(free={"CPU": 7.0}, total=NODE, nodes=[NODE])
FREE = Supply(free=NODE, total=NODE, nodes=[NODE])
ONE = Need({"CPU": 1.0, "GPU": 1.0}, 1, 1, "engine")
LINE = (
    "waits for resources (10 s): 1 engine(s) of 1 CPU + 1 GPU asked, room for 0. "
    "CPU: 1 asked, 7 free, 8 in all; GPU: 1 asked, 0 free, 1 in all"
)


def test_it_is_said_after_10_seconds_and_then_every_30_until_there_is_room():
    said = []
    watched = Waiting(ONE, 1, said.append, lambda: TAKEN)
    over = [watched.look(seconds, 0) for seconds in range(75)]
    assert not any(over)
    assert said[0] == LINE
    assert [line.partition(":")[0] for line in said] == [
        "waits for resources (10 s)",
        "waits for resources (40 s)",
        "waits for resources (70 s)",
    ]
    assert watched.look(76, 1)
    assert said[-1] == "has what it waited for after 76 s"


def test_an_engine_that_only_takes_long_to_start_waits_for_nothing():
    said = []
    watched = Waiting(ONE, 1, said.append, lambda: FREE)
    assert [watched.look(seconds, 0) for seconds in (9, 30, 60)] == [False] * 3
    assert watched.look(61, 1)
    assert said == []


def test_the_room_of_those_that_have_a_place_counts_as_free():
    said = []
    Waiting(Need({"GPU": 1.0}, 2, 2, "engine"), 2, said.append, lambda: TAKEN).look(10, 1)
    assert said == [
        "waits for resources (10 s): 2 engine(s) of 1 GPU asked, room for 1. GPU: 2 asked, 1 free, 1 in all"
    ]


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        ({"GPU": 1.0}, False),
        ({"GPU": 2.0}, True),  # two are free, on two nodes
        ({"CPU": 9.0}, True),
        ({"TPU": 1.0}, True),
    ],
)
def test_one_more_must_fit_on_a_node(each, expected):
    two = Supply(free={"CPU": 8.0, "GPU": 2.0}, total={"CPU": 16.0, "GPU": 2.0}, nodes=[NODE, NODE])
    assert lacks(Need(each, 1, 1), two) is expected


@pytest.mark.parametrize(
    ("backend", "use_gpu", "pipeline", "expected"),
    [
        ("vllm", True, 1, Need({"CPU": 1.0, "GPU": 2.0}, 1, 3, "engine")),
        ("vllm", True, 4, Need({"CPU": 1.0, "GPU": 1.0}, 8, 24, "GPU of an engine")),  # 2 x 4 for each
        ("vllm", False, 1, Need({"CPU": 1.0}, 1, 3, "engine")),
        ("openai", True, 1, Need({"CPU": 1.0}, 1, 3, "engine")),
    ],
)
def test_what_engines_take(backend, use_gpu, pipeline, expected):
    options = EngineOptions("m", use_gpu=use_gpu, tensor_parallel_size=2, pipeline_parallel_size=pipeline)
    assert need(WorkerSpec(backend, options, SamplingParams(), 1), Replicas(1, 3)) == expected


def test_it_looks_beside_the_block_and_ends_with_it(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(waiting, "_SAY_FIRST", 0.0)
    said, has_spoken = [], threading.Event()

    def say(line):
        said.append(line)
        has_spoken.set()

    with told(Waiting(ONE, 1, say, lambda: TAKEN), lambda: 0):
        assert has_spoken.wait(30)
    assert said == [LINE.replace("10 s", "0 s")]
    assert not [thread for thread in threading.enumerate() if thread.name == "waiting-for-room"]


def test_it_looks_again_where_an_answer_is_late_and_no_more_where_none_can_come(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.01)
    answers = [GetTimeoutError(), GetTimeoutError(), RayActorError()]

    def placed():
        raise answers.pop(0)

    with told(Waiting(ONE, 1, print, lambda: TAKEN), placed):
        await_end()
    assert answers == []


def await_end():
    late = time.monotonic() + 30
    while any(thread.name == "waiting-for-room" for thread in threading.enumerate()):
        assert time.monotonic() < late
        time.sleep(0.01)


def test_it_ends_by_itself_once_there_is_room(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.01)
    asked = []
    with told(Waiting(ONE, 1, asked.append, lambda: TAKEN), lambda: asked.append("placed") or 1):
        await_end()
    assert asked == ["placed"]
