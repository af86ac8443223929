"""Stages with addresses: each is named by the hash of what goes into it.

A stage that is there is never run again; one with other inputs has another name. Its folder is written
under a temporary name and renamed when it is whole, so a folder with the final name is finished, whatever was
killed when. The temporary name follows from the inputs too: work that can go on from where it was (kept
texts, checkpoints) finds what it left.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoalign import manifest

RECORD = "stage.json"
FOLDER = "stages"
Work = Callable[[Path], Mapping[str, Any]]
"""Writes its files into the folder it is given, and returns figures (JSON values)."""


@dataclass(frozen=True)
class Stage:
    """A piece of work.

    Attributes:
        kind: "data", "train", "answers" or "evaluation".
        inputs: all that its output depends on, as JSON values; files and models by their digests.
        after: names of the stages that it takes something from.
    """

    kind: str
    inputs: Mapping[str, Any]
    work: Work = field(compare=False)
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`KIND-` and 16 hex digits of the inputs."""
        text = json.dumps([self.kind, self.inputs], sort_keys=True, ensure_ascii=False)
        return f"{self.kind}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True)
class Done:
    """A finished stage: its folder, and what `stage.json` says."""

    name: str
    folder: Path
    record: Mapping[str, Any]
    ran: bool = False

    @property
    def figures(self) -> Mapping[str, Any]:
        """What the work returned."""
        found: Mapping[str, Any] = self.record["figures"]
        return found

    def digest(self, file: str) -> str:
        """SHA-256 of one of its files."""
        return manifest.file_sha256(self.folder / file)


class StageStore:
    """The stages of a job, in folders under `root`.

    Args:
        note: told in a line what is run and what is skipped.
    """

    def __init__(self, root: Path, note: Callable[[str], None] = lambda line: None) -> None:
        self.root, self._note = root, note

    def find(self, name: str) -> Done | None:
        """The finished stage of that name."""
        folder = self.root / name
        path = folder / RECORD
        if not path.is_file():
            return None
        return Done(name, folder, json.loads(path.read_text(encoding="utf-8")))

    def all(self) -> list[Done]:
        """Every finished stage, the oldest first."""
        names = [path.parent.name for path in self.root.glob(f"*/{RECORD}") if path.parent.name[0] != "."]
        found = [done for name in names if (done := self.find(name)) is not None]
        return sorted(found, key=lambda done: str(done.record["finished"]))

    def run(self, stage: Stage) -> Done:
        """The stage's output: found, or made now."""
        found = self.find(stage.name)
        if found is not None:
            self._note(f"{stage.name}: done before, {found.record['seconds']:.1f} s")
            return found
        self._note(f"{stage.name}: running")
        partial = self.root / f".{stage.name}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        started = time.time()
        figures = dict(stage.work(partial))
        record = {
            "name": stage.name,
            "kind": stage.kind,
            "inputs": stage.inputs,
            "after": list(stage.after),
            "figures": figures,
            "seconds": round(time.time() - started, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        manifest.write_json(partial / RECORD, record)
        folder = self.root / stage.name
        partial.replace(folder)
        self._note(f"{stage.name}: {record['seconds']:.1f} s")
        return Done(stage.name, folder, record, ran=True)
