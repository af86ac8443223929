"""The rows of a sampling job's output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from autoalign.config.sample import InferConfig
from autoalign.records import Message, Sample
from autoalign.sampling.messages import Answer
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.reasoning import split_reasoning

_MADE = ("messages", "text", "finish_reason", "prompt_tokens", "completion_tokens", "seed")


class RowMaker:
    """Answers as rows; `recorded` is what each way of a sweep puts into its rows."""

    def __init__(self, config: InferConfig, recorded: Sequence[Mapping[str, Any]] = ()) -> None:
        self._config, self._recorded = config, recorded
        self._model, self._source = config.name, config.label

    def row(self, prompt: Prompt, answer: Answer, key: bytes) -> dict[str, Any]:
        """The row of a new answer; its key is the last field, where `ledger` looks for it."""
        reasoning, text = None, answer.text
        if self._config.split_reasoning:
            reasoning, text = split_reasoning(answer.text)
        made = {
            "messages": [*prompt.own_messages, Message("assistant", text).to_dict()],
            "text": text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "seed": answer.seed,
            "reasoning": reasoning,
            "logprobs": answer.logprobs,
            "key": key.hex(),
        }
        return self._assembled(prompt, answer.index, made)

    def relabelled(self, line: bytes, prompt: Prompt, index: int) -> bytes:
        """A row that an earlier run made, with the names and other keys that its prompt has now."""
        return dumps(self._assembled(prompt, index, json.loads(line)))

    def _assembled(self, prompt: Prompt, index: int, made: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: made[name] for name in _MADE}
        row = Sample(
            id=f"{prompt.key}-{index}",
            prompt_id=prompt.id,
            index=index,
            model=self._model,
            source=self._source,
            extra=prompt.extra,
            **{**own, "messages": ()},
        ).to_dict()
        row["messages"] = made["messages"]
        if made.get("reasoning") is not None:
            row["reasoning"] = made["reasoning"]
        if prompt.variant is not None:
            row["params"] = self._recorded[prompt.variant]
        if made.get("logprobs") is not None:
            row["logprobs"] = made["logprobs"]
        row["key"] = made["key"]
        return row


def dumps(row: Mapping[str, Any]) -> bytes:
    """One line; half a surrogate pair, which no file can hold, becomes a question mark."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # it is strict about surrogates, and about integers beyond 64 bits
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
