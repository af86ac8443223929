"""What the models of jobs, and their checkpoints, are called."""

from __future__ import annotations

import re
from typing import NamedTuple

from autoalign.jobs.tables import JobRow

# Digits of a job's id that its model's name ends in.
_ID_DIGITS = 12
_STEP = re.compile(r"(?P<model>.+):ckpt-step-(?P<step>\d{1,9})")


class Checkpoint(NamedTuple):
    """A name's model and step."""

    model: str
    step: int

    @property
    def name(self) -> str:
        """`MODEL:ckpt-step-N`, as OpenAI names its own."""
        return f"{self.model}:ckpt-step-{self.step}"

    @property
    def folder(self) -> str:
        """The name of its folder, in that of its model."""
        return f"checkpoint-{self.step}"

    @classmethod
    def parse(cls, name: str) -> Checkpoint | None:
        """The checkpoint of that name; None where the name is of no checkpoint."""
        found = _STEP.fullmatch(name)
        return None if found is None else cls(found["model"], int(found["step"]))


def model_name(job: JobRow) -> str:
    """`ft:BASE:OWNER:SUFFIX:ID`, as OpenAI names its own."""
    base = _word(parent(job).rstrip("/").rpartition("/")[2].removeprefix("ft:"))
    suffix = _word(str(job.about.get("suffix") or job.kind))
    return f"ft:{base}:{_word(job.owner_name)}:{suffix}:{job.id[-_ID_DIGITS:]}"


def id_ending(name: str) -> str | None:
    """What the id of the job ends in whose model has this name; None where no job's model has it."""
    head, _, digits = name.rpartition(":")
    whole = re.fullmatch(rf"[0-9a-f]{{{_ID_DIGITS}}}", digits) is not None
    return digits if whole and head.startswith("ft:") else None


def parent(job: JobRow) -> str:
    """What the job's model was made from, as its user has named it."""
    named = job.about.get("model") or job.config.get("model_name_or_path") or job.config.get("models") or ""
    return str(named[0] if isinstance(named, list) else named)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:40].strip("-.") or "model"
