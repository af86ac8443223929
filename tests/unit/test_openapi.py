"""schemathesis over the endpoint's OpenAPI document; `make fuzz` looks at 2,000 examples an operation."""

import os

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from autoalign.serving.app import routes
from tests.platforms import open_platform
from tests.whole_endpoint import parts, whole_endpoint

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))
# Making the routes asks nothing of the platform behind them.
SCHEMA = schemathesis.openapi.from_dict(routes(parts(None)).openapi())
# What only the job's own class or the database can know is a 400, a 409, a 413 or a 429.
SCHEMA.config.checks.positive_data_acceptance.expected_statuses = [
    *("2xx", "400", "401", "403", "404", "409", "413", "429")
]
OPERATIONS = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}
MODES = list(schemathesis.GenerationMode)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """The application's URL, and what opens it."""
    platform = open_platform(tmp_path_factory.mktemp("platform"))
    token = platform.tokens.create("fuzz", ["admin"]).text
    with whole_endpoint(platform) as url:
        yield url, {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def session():
    """Connections that are kept."""
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_5xx_and_no_undocumented_status(label, mode, endpoint, session):
    url, headers = endpoint

    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        case.call_and_validate(base_url=url, headers=dict(headers), session=session)

    try:
        ask()
    except Unsatisfiable:
        pytest.skip("there is nothing about this operation to get wrong")
