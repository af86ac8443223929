"""Rounds whose data a later training takes as well: those of the same kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoalign.alignment.carrying import Kind, carried
from autoalign.alignment.stages import StageStore
from tests.alignment_fakes import Principled, job

PAIRS, EXAMPLES, OF_GENERATOR = (
    Kind("pairs", "policy"),
    Kind("examples", "policy"),
    Kind("pairs", "generator"),
)


@pytest.mark.parametrize(
    ("rounds", "found"), [(0, []), (1, ["third"]), (2, ["first", "third"]), (9, ["first", "third"])]
)
def test_the_last_rounds_of_the_same_kind_are_carried_on(rounds: int, found: list[str]) -> None:
    before = [(PAIRS, "first"), (EXAMPLES, "second"), (PAIRS, "third"), (OF_GENERATOR, "fourth")]
    assert carried(before, PAIRS, rounds) == found


@pytest.mark.parametrize(
    "settings",
    [
        {
            "algorithm": "cai",
            "principles": ["Be kind."],
            "options": {"revisions": 1},
            "round_options": [{"stage": "revision"}, {"stage": "feedback"}],
        },
        {"algorithm": "sso", "options": {}, "round_options": [{"stage": "generator"}, {"stage": "policy"}]},
    ],
    ids=["examples, then pairs", "of the generator, then of the policy"],
)
def test_a_round_of_another_kind_is_not_carried_on(tmp_path: Path, settings: dict[str, Any]) -> None:
    loop = job(tmp_path, sampler=Principled, carry_rounds=1, promote_when="always", **settings)
    ledger = loop.run()
    second = StageStore(tmp_path / "out" / "stages").find(ledger[2].stages["train"])
    assert second is not None
    assert len(second.record["inputs"]["data"]) == 1
    assert second.record["after"][0] == ledger[2].stages["data"]
    assert ledger[1].stages["data"] not in second.record["after"]
