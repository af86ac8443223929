"""What tells one engine from another."""

from pathlib import Path

import pytest

from autoalign.config.serve import ServeConfig
from autoalign.serving.catalogue import Served
from autoalign.serving.spec import engine_spec

SERVED = Served("Demo.v1", Path("/models/demo"), "state", 0)


def name(served=SERVED, lora=False, use_gpu=False, **values):
    return engine_spec(ServeConfig.build({"model_roots": ["x"], **values}), served, lora, use_gpu).app_name


def test_the_same_settings_give_the_same_engine_whatever_the_endpoint_is_like():
    assert name() == name(port=9000, max_loaded_models=7, load_timeout=1.0)
    assert name().startswith("engine-demo-v1-")


@pytest.mark.parametrize(
    "changed",
    [
        *({"max_model_len": 512}, {"engine_args": ["--max-num-seqs=4"]}, {"max_replicas": 2}),
        *({"max_in_flight": 8}, {"max_queued": 8}, {"cpus_per_replica": 2.0}, {"backend": "fake"}),
        *({"target_in_flight": 8}, {"dtype": "float32"}, {"tensor_parallel_size": 2}),
        *({"lora": True}, {"use_gpu": True}, {"served": Served("Demo.v1", SERVED.folder, "new state", 0)}),
    ],
    ids=str,
)
def test_another_setting_or_state_gives_another_engine(changed):
    assert name(**changed) != name()


@pytest.mark.parametrize(
    ("values", "is_one"),
    [
        ({}, True),
        ({"engine_args": ["--max-num-seqs=4"]}, True),
        ({"tensor_parallel_size": 2}, False),
        ({"engine_args": ["--pipeline-parallel-size", "2"]}, False),
        ({"engine_args": ["-dp", "2"]}, False),
    ],
)
def test_an_engine_of_several_ranks_is_told(values, is_one):
    config = ServeConfig.build({"model_roots": ["x"], **values})
    assert engine_spec(config, SERVED, lora=False, use_gpu=False).is_one_rank is is_one
