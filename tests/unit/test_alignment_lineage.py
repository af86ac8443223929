"""`align lineage --row`: who took part in a row, and where those models came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.algorithms import Ask, Reply
from autoalign.alignment import lineage
from autoalign.alignment.ledger import Ledger
from autoalign.alignment.stages import StageStore
from tests.alignment_fakes import FakeSampler, Principled, digest, job


def lines_of(tmp_path: Path, ledger: Ledger, number: int) -> list[str]:
    """The lineage of a round's first row."""
    store = StageStore(tmp_path / "out" / "stages")
    path = store.root / ledger[number].stages["data"] / "data.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    return list(lineage.of_row(ledger, store, row["id"]))


def roles(told: Sequence[str]) -> dict[str, str]:
    """Role to what is said of it."""
    names = ("policy", "judge", "strong", "weak", "generator")
    parts = [each.strip().split(": ", 1) for each in told if each.startswith("  ")]
    return {part[0]: part[1] for part in parts if part[0] in names}


def test_the_stage_that_made_an_author_is_named_with_those_behind_it(tmp_path: Path) -> None:
    """SSO's second round: the generator of the first one writes, the first model gives the principles."""
    options = [{"stage": "generator"}, {"stage": "policy"}]
    ledger = job(tmp_path, sampler=Principled, algorithm="sso", options={}, round_options=options).run()
    told, first = lines_of(tmp_path, ledger, 2), digest(str(tmp_path / "first"))
    trained = ledger[1].stages["train"]
    generator = digest(str(tmp_path / "out" / "stages" / trained / "model"))
    assert roles(told) == {
        "strong": f"{first[:16]}, the first model",
        "generator": f"{generator[:16]}, trained by {trained}",
    }
    place = next(place for place, each in enumerate(told) if "generator: " in each)
    assert told[place + 1].startswith(f"    {trained}, ")
    assert told[place + 2].startswith(f"      {ledger[1].stages['data']}, ")


def test_a_promoted_policy_is_named_by_its_training(tmp_path: Path) -> None:
    ledger = job(tmp_path, promote_when="always").run()
    assert roles(lines_of(tmp_path, ledger, 1))["policy"].endswith(", the first model")
    second = roles(lines_of(tmp_path, ledger, 2))
    assert second.keys() == {"policy"}
    assert second["policy"].endswith(f", trained by {ledger[1].stages['train']}")


class Elsewhere(FakeSampler):
    """The judge is at an endpoint."""

    def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> list[Reply]:
        return super().__call__({**models, "judge": models["policy"]}, asks, store)


def test_an_endpoint_is_shown_as_a_whole(tmp_path: Path) -> None:
    judge: dict[str, Any] = {
        "backend": "openai",
        "model_path": "gpt-x",
        "base_url": "http://judge:8000/v1",
    }
    ledger = job(
        tmp_path, sampler=Elsewhere, algorithm="online_dpo", options={}, rounds=1, models={"judge": judge}
    ).run()
    told = roles(lines_of(tmp_path, ledger, 1))
    assert told["judge"] == "openai http://judge:8000/v1 gpt-x"
    assert told.keys() == {"policy", "judge"}


def test_a_stage_from_before_roles_were_counted_lists_all(tmp_path: Path) -> None:
    ledger = job(tmp_path, rounds=1).run()
    path = tmp_path / "out" / "stages" / ledger[1].stages["data"] / "stage.json"
    record = json.loads(path.read_text())
    assert record["figures"].pop("asked") == {"policy": 160}  # 40 prompts, 4 samples
    path.write_text(json.dumps(record))
    told = roles(lines_of(tmp_path, ledger, 1))
    assert set(told) == {"policy", "judge", "strong", "weak", "generator"}
