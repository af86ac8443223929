"""A loop's rounds as far as its finished stages lead: what is done, and what is to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from autoalign.alignment.ledger import Round
from autoalign.alignment.loop import Loop, Steps, follow
from autoalign.alignment.stages import Done, Stage

_OF_POLICY = ("data", "answers_policy", "answers_first", "train", "answers_new", "evaluation")
_OF_OTHERS = ("data", "train")


class Known(NamedTuple):
    """A stage whose name is known, and its output where it is done."""

    name: str
    output: Done | None


@dataclass(frozen=True)
class Followed:
    """A round.

    Attributes:
        entry: with a reason where everything in it is done.
        stages: what each is for, to those that are known; a name follows from the outputs of stages before.
        is_first: no round before trains the policy, which has then not answered yet.
    """

    entry: Round
    stages: Mapping[str, Known]
    is_first: bool

    def output(self, what: str) -> Done | None:
        """Of a stage that is done."""
        return self.stages[what].output if what in self.stages else None

    @property
    def done(self) -> list[str]:
        """Names of the stages that are done."""
        return list(dict.fromkeys(each.name for each in self.stages.values() if each.output is not None))

    @property
    def to_run(self) -> list[str]:
        """Names of the stages that are to run; of those that are not known what they are for."""
        whats = _OF_POLICY if self.entry.trains == "policy" else _OF_OTHERS
        missing = [what for what in whats if self.output(what) is None]
        named = (self.stages[what].name if what in self.stages else _kind(what) for what in missing)
        return list(dict.fromkeys(named))

    @property
    def answering(self) -> int:
        """How many models are to answer what is held out."""
        if self.entry.trains != "policy":
            return 0
        if not self.stages:
            return 1 + self.is_first  # the new model, and the policy
        known = [each for what, each in self.stages.items() if _kind(what) == "answers"]
        unknown = "answers_new" not in self.stages
        return len({each.name for each in known if each.output is None}) + unknown


def rounds(loop: Loop) -> Iterator[Followed]:
    """All rounds of a loop that has not run; nothing is run or written, and the loop stays as it is."""
    walker, is_known, is_first = copy(loop), True, True
    for entry in walker.rounds():
        stages = _known(walker, walker.steps(entry)) if is_known else {}
        is_known = bool(entry.reason)
        yield Followed(entry, stages, is_first)
        is_first = is_first and entry.trains != "policy"


def _known(loop: Loop, steps: Steps) -> dict[str, Known]:
    stages: dict[str, Known] = {}

    def output(what: str, stage: Stage) -> Done | None:
        stages[what] = Known(stage.name, loop.found(stage))
        return stages[what].output

    follow(steps, output)
    return stages


def _kind(what: str) -> str:
    return what.split("_")[0]
