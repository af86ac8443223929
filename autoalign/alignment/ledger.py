"""`align.json`: which stages each round went through, and what was decided. Written after every stage."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.errors import ConfigError

NAME = "align.json"


@dataclass
class Round:
    """A round as far as it went.

    Attributes:
        stages: what it is for ("data", "train", "evaluation") to the stage's name.
        trains: role of the trained model.
        promoted: None before the decision, and where another role than the policy was trained.
    """

    number: int
    trains: str = "policy"
    stages: dict[str, str] = field(default_factory=dict)
    promoted: bool | None = None
    reason: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass
class Ledger:
    """A job's rounds; the paths are relative to `folder` where they lie in it."""

    folder: Path
    algorithm: str
    first_model: str
    policy: str = ""
    rounds: list[Round] = field(default_factory=list)
    finished: bool = False

    def write(self) -> None:
        """Replace the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        manifest.write_json(self.folder / NAME, content)

    def __getitem__(self, number: int) -> Round:
        """A round, from 1."""
        return self.rounds[number - 1]


def read(folder: Path) -> Ledger:
    """The ledger of a job's folder.

    Raises:
        ConfigError: there is none.
    """
    path = folder / NAME
    if not path.is_file():
        raise ConfigError(f"{folder}: no {NAME} in it; give the output_dir of an `autoalign-cli align` job")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rounds = [Round(**each) for each in content.pop("rounds")]
    return Ledger(folder, rounds=rounds, **content)
