"""What an engine takes in Ray, and which applications are engines."""

import pytest

from autoalign.config.serve import ServeConfig
from autoalign.serving.serve_launcher import missing, needs
from autoalign.serving.spec import EngineSpec, is_engine

SPEC = EngineSpec("fake", "Demo", ".", "0123456789abcdef", None, True, False, False, ())


def test_the_engines_of_a_model_take_their_gpus_and_cpus():
    config = ServeConfig.build(
        {"model_roots": ["x"], "tensor_parallel_size": 2, "min_replicas": 3, "max_replicas": 3}
    )
    assert needs(config, SPEC) == {"GPU": 6, "CPU": 3.0}


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        ({"GPU": 1.0, "CPU": 4.0}, None),
        ({"CPU": 4.0}, "1 GPU needed, 0 free of 1"),
        ({"GPU": 0.5, "CPU": 0.0}, "1 GPU needed, 0.5 free of 1; 2 CPU needed, 0 free of 8"),
    ],
)
def test_what_is_missing_is_named(free, expected):
    assert missing({"GPU": 1, "CPU": 2.0}, free, {"GPU": 1.0, "CPU": 8.0}) == expected


def test_a_cluster_without_gpus_lacks_none_that_are_not_wanted():
    assert missing({"GPU": 0, "CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}) is None


@pytest.mark.parametrize(
    "name", ["autoalign", "engine-", "engine-mine", "engine-demo-0123", "my-engine-demo-0123456789ab"]
)
def test_other_applications_are_no_engines(name):
    assert is_engine(SPEC.app_name) and not is_engine(name)
