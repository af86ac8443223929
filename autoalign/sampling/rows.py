"""The rows of a sampling job's output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from autoalign.config.sample import InferConfig
from autoalign.sampling.messages import Answer
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.reasoning import split_reasoning
from autoalign.sampling.turns import messages_behind

_MADE = ("messages", "text", "finish_reason", "prompt_tokens", "completion_tokens", "seed")
_WHERE_ASKED_FOR = ("reasoning", "logprobs", "turns")


class RowMaker:
    """Answers as rows; `recorded` is what each way of a sweep puts into its rows."""

    def __init__(self, config: InferConfig, recorded: Sequence[Mapping[str, Any]] = ()) -> None:
        self._config, self._recorded = config, recorded
        self._model, self._source = config.name, config.label

    def row(self, prompt: Prompt, answer: Answer, key: bytes) -> dict[str, Any]:
        """The row of a new answer, as `Sample.to_dict` has it.

        Its key is the last field, where `ledger` looks for it.
        """
        reasoning, text = None, answer.text
        if self._config.split_reasoning:
            reasoning, text = split_reasoning(answer.text)
        behind: list[dict[str, Any]] = [{"role": "assistant", "content": text}]
        if answer.turns is not None:
            behind, reasoning = messages_behind(answer.turns), answer.turns[-1].get("reasoning")
        row = {
            "id": f"{prompt.key}-{answer.index}",
            "prompt_id": prompt.id,
            "index": answer.index,
            "messages": [*prompt.own_messages, *behind],
            "text": text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "seed": answer.seed,
            "model": self._model,
            "source": self._source,
        }
        self._add_of_prompt(row, prompt)
        if reasoning is not None:
            row["reasoning"] = reasoning
        if answer.logprobs is not None:
            row["logprobs"] = answer.logprobs
        if answer.turns:
            row["turns"] = [_figures(turn) for turn in answer.turns]
        row["key"] = key.hex()
        return row

    def relabelled(self, line: bytes, prompt: Prompt, index: int) -> bytes:
        """A row that an earlier run made, with the names and other keys that its prompt has now."""
        made = json.loads(line)
        row = {"id": f"{prompt.key}-{index}", "prompt_id": prompt.id, "index": index}
        row |= {name: made[name] for name in _MADE}
        row |= {"model": self._model, "source": self._source}
        self._add_of_prompt(row, prompt)
        row |= {name: made[name] for name in _WHERE_ASKED_FOR if made.get(name) is not None}
        row["key"] = made["key"]
        return dumps(row)

    def _add_of_prompt(self, row: dict[str, Any], prompt: Prompt) -> None:
        if prompt.extra:
            row["extra"] = prompt.extra
        if prompt.variant is not None:
            row["params"] = self._recorded[prompt.variant]


def _figures(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Of a turn what its messages do not tell."""
    return {name: value for name, value in turn.items() if name not in ("text", "user")}


def dumps(row: Mapping[str, Any]) -> bytes:
    """One line; half a surrogate pair, which no file can hold, becomes a question mark."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # it is strict about surrogates, and about integers beyond 64 bits
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
