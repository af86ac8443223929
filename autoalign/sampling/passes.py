"""Passes over the answers that are missing: one engine's death costs a pass, not the job.

An engine that dies may have died of a prompt. Where it happens again, or before any answer, what was being
answered is asked in halves, down to the one that no engine survives; it fails, and the rest goes on.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from autoalign.errors import JobFailed
from autoalign.sampling import pipeline
from autoalign.sampling.collector import Collector
from autoalign.sampling.engines.base import EngineDead
from autoalign.sampling.messages import Answer, Message
from autoalign.sampling.order import arranged
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.prompts import Prompt

_PASSES = 3
_HOPELESS = 16  # deaths in a row without an answer, more than halving a thousand takes: it is the engine
Reports = Callable[[pipeline.Tasks], Generator[Message, None, None]]
_Suspect = tuple[Prompt, int]


class Passes:
    """What asks until nothing is missing.

    Args:
        reports: runs tasks through engines of their own.
        n: answers to a prompt.
        at_work: answers that engines may be at work on when one dies; 0: they run elsewhere (an endpoint),
            where an engine's death is no prompt's fault.
    """

    def __init__(
        self, reports: Reports, collector: Collector, progress: SampleProgress, n: int, at_work: int
    ) -> None:
        self._reports, self._collector, self._progress = reports, collector, progress
        self._n, self._at_work = n, at_work
        self._deaths = 0
        self._has_answered = False

    def run(self) -> None:
        """Have every answer made that is missing.

        Raises:
            JobFailed: an engine did not start, or died again and again whatever it was asked.
        """
        left = _PASSES
        while left:
            left -= 1
            before = self._collector.missing
            error = self._ask(pipeline.Tasks(arranged(self._collector.open_tasks()), self._n, before))
            if not self._collector.missing:
                return
            if error is None:
                continue
            is_stuck = self._collector.missing == before
            is_dead = isinstance(error, EngineDead) and self._at_work > 0
            if is_stuck and not is_dead:
                raise self._ended(error) from error
            warn(f"{error}; {self._collector.missing} answers are missing")
            if is_dead and (is_stuck or left < _PASSES - 1) and self._find_killers():
                left = _PASSES
        missing, kept = self._collector.missing, self._collector.what_is_kept()
        raise JobFailed(f"{missing} answers are missing; {kept}")

    def _ask(self, tasks: pipeline.Tasks) -> JobFailed | None:
        """Take the answers as they come; what ended the engine before it had given all."""
        try:
            # An engine in this process ends with its generator, whatever becomes of the answers.
            with closing(self._reports(tasks)) as messages:
                for message in messages:
                    self._progress.heard(message.replica, message.in_flight)
                    self._collector.take(message.answers, self._progress)
                    self._has_answered |= bool(message.answers)
        except JobFailed as error:
            return error
        return None

    def _find_killers(self) -> bool:
        """Ask what was at work; whether any of it had to be given up.

        Raises:
            JobFailed: no engine has answered anything, so that it is not the prompts' fault.
        """
        warn("what the engine was at work on is asked in smaller groups, to find what it dies of")
        tasks = arranged(self._collector.open_tasks())
        each = ((prompt, index) for prompt, wanted in tasks for index in wanted)
        killers = self._narrow(list(itertools.islice(each, self._at_work)))
        if killers and not self._has_answered:
            raise self._ended(killers[0][1])
        for (prompt, index), error in killers:
            self._give_up(prompt, index, error)
        return bool(killers)

    def _narrow(self, suspects: Sequence[_Suspect]) -> list[tuple[_Suspect, EngineDead]]:
        """Ask them all; those that an engine dies of when it is asked nothing else."""
        if not suspects:
            return []
        before = self._collector.missing
        grouped = [(prompt, [index]) for prompt, index in suspects]
        error = self._ask(pipeline.Tasks(grouped, self._n, len(grouped)))
        if error is None:
            return []
        self._deaths = self._deaths + 1 if self._collector.missing == before else 1
        if not isinstance(error, EngineDead) or self._deaths > _HOPELESS:
            raise self._ended(error) from error
        if len(suspects) == 1:
            return [(suspects[0], error)]
        rest = [suspect for suspect in suspects if self._collector.lacks(suspect[0].index, suspect[1])]
        half = len(rest) // 2
        return self._narrow(rest[:half]) + self._narrow(rest[half:])

    def _give_up(self, prompt: Prompt, index: int, error: EngineDead) -> None:
        reason = f"the engine dies of it: {error}"
        failed = Answer(prompt.index, index, "", "error", len(prompt.token_ids), 0, 0, reason, time.time())
        self._collector.take([failed], self._progress)

    def _ended(self, error: JobFailed) -> JobFailed:
        return JobFailed(f"{error}; {self._collector.what_is_kept()}")


def warn(text: str) -> None:
    """Tell on stderr."""
    print(f"warning: {text}", file=sys.stderr)
