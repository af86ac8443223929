"""Gathers a job's prompts, answers and failures, and writes its files at the end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from autoalign.config.sample import InferConfig
from autoalign.diversity import mean_diversity
from autoalign.records import Message, Sample
from autoalign.sampling import output
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.prompts import Prompt, PromptSpool, Refused
from autoalign.sampling.reasoning import split_reasoning
from autoalign.sampling.report import SampleReport
from autoalign.sampling.worker import Answer


class Collector:
    """Answer `i` of prompt `p` has the number `p * n + i` in the output.

    Its working files lie beside the output and are gone at the end, but for
    `NAME.partial` after a job that did not finish and has answers.
    """

    def __init__(self, config: InferConfig, recorded: Sequence[Mapping[str, Any]] = ()) -> None:
        """`recorded`: what each way of a sweep puts into its rows."""
        self._config, self._path, self._recorded = config, config.output_path, recorded
        folder, base = self._path.parent, f".{self._path.name}"
        folder.mkdir(parents=True, exist_ok=True)
        # First, since it refuses a second job at work on the same output.
        self._store = output.AnswerStore(folder / f"{self._path.name}.partial")
        self.quarantine = folder / f"{base}.quarantine"
        self._errors_path = folder / f"{base}.errors"
        self._errors = self._errors_path.open("w+b")
        self.prompts = PromptSpool(folder / f"{base}.prompts")
        self.quarantine.unlink(missing_ok=True)
        self._failed = self._prompt_tokens = self._output_tokens = 0
        self._ready: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._errors.close()
        self._errors_path.unlink(missing_ok=True)
        self.quarantine.unlink(missing_ok=True)
        self.prompts.discard()
        self._store.close(keep=kind is not None and self._store.done > 0)
        with contextlib.suppress(OSError):  # goes only where nothing was written
            self._path.parent.rmdir()

    def expect(self, prompts: Iterable[Prompt | Refused]) -> int:
        """Keep the prompts to come; returns how many of them ids had to be made unique for."""
        renamed = 0
        for prompt in prompts:
            self.prompts.add(prompt)
            refused = isinstance(prompt, Refused)
            self._store.grow(self._config.n, failed=refused)
            if isinstance(prompt, Refused):
                self._failed += self._config.n
                self._write_error(prompt.id, None, prompt.reason, prompt.messages)
            renamed += prompt.renamed
        return renamed

    @property
    def expected(self) -> int:
        """How many answers are to come."""
        return len(self._store)

    @property
    def failed(self) -> int:
        """How many answers can't be had."""
        return self._failed

    @property
    def missing(self) -> int:
        """How many answers are neither there nor failed."""
        return self._store.missing

    def open_tasks(self) -> Iterator[tuple[Prompt, list[int]]]:
        """Prompts, each with the indices of its answers that are missing."""
        n = self._config.n
        for number in self.prompts.indices():
            wanted = [index for index in range(n) if self._store.is_missing(number * n + index)]
            if wanted:
                yield self.prompts[number], wanted

    def take(self, answers: Iterable[Answer], progress: SampleProgress) -> None:
        """Keep answers and failures as they come; one that was settled before is left out."""
        done = failed = tokens = 0
        for answer in answers:
            number = answer.prompt * self._config.n + answer.index
            self._ready = min(self._ready or answer.engine_ready, answer.engine_ready)
            prompt = self.prompts[answer.prompt]
            if answer.error is not None:
                if self._store.fail(number):
                    failed += 1
                    self._write_error(prompt.id, answer.index, answer.error, prompt.messages)
            elif self._store.add(number, self._row(prompt, answer)):
                done += 1
                tokens += answer.completion_tokens
                self._prompt_tokens += answer.prompt_tokens
        self._store.flush()
        self._failed += failed
        self._output_tokens += tokens
        if self._ready is not None:
            progress.engine_ready(self._ready)
        progress.advance(done, failed, tokens)

    def what_is_kept(self) -> str:
        """For the message of a job that was stopped."""
        if not self._store.done:
            return "stopped before the first answer; nothing was written"
        return (
            f"stopped: {self._store.done} of {self.expected} answers, in the order they were finished, "
            f"are in {self._store.path}"
        )

    def finish(self, started: float) -> SampleReport:
        """Write the output and `errors.jsonl`; `started` is the job's `time.time()`."""
        config = self._config
        output.write_answers(self._path, self._store.in_order(), config.output_format, config.n == 1)
        quarantined = self._take_quarantined()
        self._errors.seek(0)
        errors = output.write_errors(self._path.parent, self._path.name, self._errors)
        ready = self._ready or time.time()
        return SampleReport(
            prompts=len(self.prompts),
            answers=self._store.done,
            failed=self._failed,
            quarantined=quarantined,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            seconds=time.time() - started,
            startup_seconds=ready - started,
            output=self._path,
            errors=errors,
            diversity=mean_diversity(self._groups()) if config.n > 1 else None,
        )

    def _groups(self) -> Iterator[list[str]]:
        """The answers of evenly spread prompts, at most 200 of them."""
        n = self._config.n
        for prompt in range(0, len(self.prompts), max(1, len(self.prompts) // 200)):
            lines = (self._store.line(prompt * n + index) for index in range(n))
            yield [json.loads(line)["text"] for line in lines if line is not None]

    def _row(self, prompt: Prompt, answer: Answer) -> dict[str, Any]:
        reasoning, text = None, answer.text
        if self._config.split_reasoning:
            reasoning, text = split_reasoning(answer.text)
        row = Sample(
            id=f"{prompt.key}-{answer.index}",
            prompt_id=prompt.id,
            index=answer.index,
            messages=(),
            text=text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            seed=answer.seed,
            model=self._config.name,
            source=self._config.label,
            extra=prompt.extra,
        ).to_dict()
        row["messages"] = [*prompt.own_messages, Message("assistant", text).to_dict()]
        if reasoning is not None:
            row["reasoning"] = reasoning
        if prompt.variant is not None:
            row["params"] = self._recorded[prompt.variant]
        if answer.logprobs is not None:
            row["logprobs"] = answer.logprobs
        return row

    def _write_error(
        self, prompt_id: str, index: int | None, reason: str, messages: Iterable[Mapping[str, Any]]
    ) -> None:
        row = {"output": self._path.name, "prompt_id": prompt_id, "index": index, "error": reason}
        line = json.dumps({**row, "messages": list(messages)}, ensure_ascii=False)
        self._errors.write(line.encode() + b"\n")

    def _take_quarantined(self) -> int:
        """Bad rows, which the reader wrote to a file of its own, go with the other errors."""
        if not self.quarantine.exists():
            return 0
        count = 0
        with self.quarantine.open("rb") as rows:
            for line in rows:
                count += 1
                row = {"output": self._path.name, **json.loads(line)}
                self._errors.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return count
