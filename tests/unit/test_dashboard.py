"""Grafana's dashboard and what /metrics shows."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from autoalign.jobs.states import STATES
from autoalign.serving.metrics import Metrics
from autoalign.serving.platform_routes import job_counts
from tests.platforms import ALICE, open_platform, sft

BOARD = json.loads((Path(__file__).resolve().parents[2] / "deploy" / "grafana.json").read_text())
QUERIES = [each["expr"] for panel in BOARD["panels"] for each in panel["targets"]]
QUERIES += [each["definition"] for each in BOARD["templating"]["list"]]


@pytest.fixture
def platform(tmp_path):
    return open_platform(tmp_path)


@pytest.fixture
def shown(platform):
    metrics = Metrics()
    metrics.watch_jobs(job_counts(platform))
    return lambda: metrics.text().decode()


def names(figures):
    """Every name that a query may use: a histogram has three."""
    kinds = re.findall(r"^# TYPE (\S+) (\w+)$", figures, re.MULTILINE)
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + part for name, kind in kinds for part in parts.get(kind, ("",))}


def test_the_dashboard_asks_for_figures_that_there_are(shown):
    asked = {name for query in QUERIES for name in re.findall(r"autoalign_\w+", query)}
    assert asked - names(shown()) == set()
    assert {"autoalign_jobs", "autoalign_time_to_first_token_seconds_bucket"} <= asked


def test_the_dashboard_can_be_imported():
    """Grafana asks for the data source, and wants an id and a place of its own for each panel."""
    (source,) = BOARD["__inputs"]
    panels = BOARD["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {f"${{{source['name']}}}"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)


def test_jobs_are_counted_by_state(shown, platform):
    for _ in range(3):
        platform.submit(ALICE, sft())
    platform.cancel(platform.jobs.in_state("queued")[0])
    lines = [line for line in shown().splitlines() if line.startswith("autoalign_jobs{")]
    expected = dict.fromkeys(STATES, 0.0) | {"queued": 2.0, "cancelled": 1.0}
    assert lines == [f'autoalign_jobs{{state="{state}"}} {count}' for state, count in expected.items()]


def test_the_other_figures_come_without_the_database(shown, platform):
    with platform.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO elsewhere"))
    assert "autoalign_jobs{" not in shown()
