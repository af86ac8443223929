"""Gathers a job's prompts, answers and failures, and writes its files at the end."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from autoalign.config.sample import InferConfig
from autoalign.diversity import mean_diversity
from autoalign.errors import ConfigError
from autoalign.sampling import output
from autoalign.sampling.figures import Figures
from autoalign.sampling.keys import AnswerKeys
from autoalign.sampling.ledger import refusal
from autoalign.sampling.messages import Answer
from autoalign.sampling.progress import SampleProgress, Settled
from autoalign.sampling.prompts import Prompt, PromptSpool, Refused
from autoalign.sampling.report import SampleReport
from autoalign.sampling.rows import RowMaker, dumps


class Collector:
    """Answer `i` of prompt `p` has the number `p * n + i` in the output.

    Its working files lie beside the output and are gone at the end, but for
    `NAME.partial` after a job that did not finish and has answers.
    """

    def __init__(
        self,
        config: InferConfig,
        recorded: Sequence[Mapping[str, Any]] = (),
        keys: AnswerKeys | None = None,
    ) -> None:
        """`recorded`: what each way of a sweep puts into its rows; `keys` names the job's answers."""
        self._config, self._path = config, config.output_path
        self._rows = RowMaker(config, recorded)
        self._keys = keys or AnswerKeys()
        folder = self._path.parent
        self._new_folders = output.make_folder(folder)
        # First, since it refuses a second job at work on the same output.
        finished = self._path if config.output_format == "jsonl" else None
        partial = folder / f"{self._path.name}.partial"
        self._store = output.AnswerStore(partial, finished, config.fresh)
        output.remove_leftovers(self._path)
        self.quarantine = folder / f".{self._path.name}.quarantine.tmp"
        self._errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self.prompts = PromptSpool(folder)
        self.quarantine.unlink(missing_ok=True)
        self._figures, self._settled = Figures(), Settled()
        self._ready: float | None = None
        self._first = self._last = time.time()
        self._writing = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._errors.close()
        self.quarantine.unlink(missing_ok=True)
        self.prompts.discard()
        self._store.close(keep=kind is not None)
        with contextlib.suppress(OSError):  # go only where nothing was written
            for folder in self._new_folders:
                folder.rmdir()

    def expect(self, prompts: Iterable[Prompt | Refused]) -> int:
        """Keep the prompts to come; returns how many of them ids had to be made unique for.

        Raises:
            ConfigError: an earlier run left answers that this job would drop.
        """
        renamed, looked_up = 0, self._store.holds_earlier
        for prompt in prompts:
            self.prompts.add(prompt)
            renamed += prompt.renamed
            if isinstance(prompt, Refused):
                self._store.give_up(self._config.n)
                key = self._keys.refused_key(prompt.messages)
                self._write_error(prompt, None, prompt.reason, key)
                continue
            for index in range(self._config.n):
                self._store.expect(self._keys.key(prompt, index) if looked_up else None)
        unasked = self._store.unasked(self._keys)
        if unasked.rows and not (self._config.overwrite or self._config.fresh):
            raise ConfigError(refusal(self._path, unasked))
        return renamed

    @property
    def expected(self) -> int:
        """How many answers are to come."""
        return len(self._store)

    @property
    def failed(self) -> int:
        """How many answers can't be had."""
        return self._store.failed

    @property
    def reused(self) -> int:
        """How many answers an earlier run has made."""
        return self._store.reused

    @property
    def missing(self) -> int:
        """How many answers are neither there nor failed."""
        return self._store.missing

    def lacks(self, prompt: int, index: int) -> bool:
        """Whether answer `index` of a prompt is missing."""
        return self._store.is_missing(prompt * self._config.n + index)

    def open_tasks(self) -> Iterator[tuple[Prompt, list[int]]]:
        """Prompts, each with the indices of its answers that are missing."""
        n = self._config.n
        for number in self.prompts.indices():
            wanted = [index for index in range(n) if self._store.is_missing(number * n + index)]
            if wanted:
                yield self.prompts[number], wanted

    def take(self, answers: Iterable[Answer], progress: SampleProgress) -> None:
        """Keep answers and failures as they come; one that was settled before is left out."""
        begun = time.time()
        done, failed, new = self._store.done, self._store.failed, list[Answer]()
        for answer in answers:
            number = answer.prompt * self._config.n + answer.index
            if not self._store.is_missing(number):
                continue
            prompt = self.prompts[answer.prompt]
            key = self._keys.key(prompt, answer.index)
            if answer.error is None:
                self._store.add(number, self._rows.row(prompt, answer, key))
            else:
                self._store.fail(number)
                self._write_error(prompt, answer.index, answer.error, key)
            new.append(answer)
        self._store.flush()
        if new:
            ready = min([answer.engine_ready for answer in new])
            self._ready = min(self._ready or ready, ready)
            progress.engine_ready(self._ready)
        before = self._figures.prompt_tokens, self._figures.output_tokens
        self._figures.add(new, max(0.0, time.time() - (self._ready or time.time())))
        progress.advance(
            self._store.done - done,
            self._store.failed - failed,
            self._figures.prompt_tokens - before[0],
            self._figures.output_tokens - before[1],
        )
        if progress.watch is not None:
            self._settled = self._more_settled({answer.prompt for answer in new})
            progress.watch(self._settled)
        self._first = self._first if self._writing else begun
        self._last = time.time()
        self._writing += self._last - begun

    def settled_before(self) -> Settled:
        """The prompts that need no engine: `take` counts on from here."""
        self._settled = Settled()
        self._settled = self._more_settled(range(len(self.prompts)))
        return self._settled

    def _more_settled(self, prompts: Iterable[int]) -> Settled:
        n, (answered, failed) = self._config.n, self._settled
        for prompt in prompts:
            numbers = range(prompt * n, prompt * n + n)
            if not any(map(self._store.is_missing, numbers)):
                whole = not any(map(self._store.is_failed, numbers))
                answered, failed = answered + whole, failed + (not whole)
        return Settled(answered, failed)

    def what_is_kept(self) -> str:
        """For the message of a job that was stopped."""
        if not self._store.done:
            return "no answer was finished"
        return (
            f"{self._store.done} of {self.expected} answers are kept in {self._store.path}; "
            "the same command goes on from there"
        )

    def finish(self, started: float) -> SampleReport:
        """Write the output and `errors.jsonl`; `started` is the job's `time.time()`."""
        config = self._config
        output.write_answers(self._path, self._final_lines(), config.output_format, config.n == 1)
        quarantined = self._take_quarantined()
        self._errors.seek(0)
        errors = output.write_errors(self._path.parent, self._path.name, self._errors)
        ready = self._ready or time.time()
        return SampleReport(
            prompts=len(self.prompts),
            answers=self._store.done,
            reused=self._store.reused,
            failed=self._store.failed,
            quarantined=quarantined,
            prompt_tokens=self._figures.prompt_tokens,
            output_tokens=self._figures.output_tokens,
            seconds=time.time() - started,
            startup_seconds=ready - started,
            output=self._path,
            errors=errors,
            diversity=mean_diversity(self._groups()) if config.n > 1 else None,
            generation_seconds=max(self._last - ready, 0.0),
            first_answer_seconds=max(self._first - ready, 0.0),
            writing_seconds=self._writing,
            figures=self._figures,
        )

    def _groups(self) -> Iterator[list[str]]:
        """The answers of evenly spread prompts, at most 200 of them."""
        n = self._config.n
        for prompt in range(0, len(self.prompts), max(1, len(self.prompts) // 200)):
            lines = (self._store.line(prompt * n + index) for index in range(n))
            yield [json.loads(line)["text"] for line in lines if line is not None]

    def _final_lines(self) -> Iterator[bytes]:
        for number, line, reused in self._store.in_order():
            place, index = divmod(number, self._config.n)
            yield self._rows.relabelled(line, self.prompts[place], index) if reused else line

    def _write_error(self, prompt: Prompt | Refused, index: int | None, reason: str, key: bytes) -> None:
        name = prompt.key if isinstance(prompt, Prompt) else prompt.id
        row = {
            "output": self._path.name,
            "id": name if index is None else f"{name}-{index}",
            "prompt_id": prompt.id,
            "index": index,
            "error": reason,
            "messages": list(prompt.messages),
            "key": key.hex(),
        }
        self._errors.write(dumps(row))

    def _take_quarantined(self) -> int:
        """Bad rows, which the reader wrote to a file of its own, go with the other errors."""
        if not self.quarantine.exists():
            return 0
        count = 0
        with self.quarantine.open("rb") as rows:
            for line in rows:
                count += 1
                row = {"output": self._path.name, **json.loads(line)}
                self._errors.write(dumps(row))
        return count
