"""What tests do with the published `openai` client: upload rows, and wait for what was started."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import openai
from openai.types import FileObject

ENDED = ("succeeded", "failed", "cancelled", "completed")


def upload(client: openai.OpenAI, rows: Iterable[Mapping[str, Any]], purpose: Any) -> str:
    """The id of a file with a row a line."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose=purpose)
    FileObject.model_validate(file.model_dump(), strict=True)
    return file.id


def wait(retrieve: Callable[[str], Any], object_id: str, seconds: float = 240) -> Any:
    """The job or batch, once it has ended."""
    deadline = time.monotonic() + seconds
    while (found := retrieve(object_id)).status not in ENDED:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def message(role: str, text: str) -> dict[str, str]:
    """One turn."""
    return {"role": role, "content": text}


def sums(count: int) -> list[dict[str, Any]]:
    """Conversations to learn from."""
    return [
        {"messages": [message("user", f"What is {n} plus {n}?"), message("assistant", f"It is {2 * n}.")]}
        for n in range(count)
    ]


def pairs(count: int) -> list[dict[str, Any]]:
    """Preferences to learn from."""
    return [
        {
            "input": {"messages": [message("user", f"Say {n}.")]},
            "preferred_output": [message("assistant", f"{n}.")],
            "non_preferred_output": [message("assistant", "No.")],
        }
        for n in range(count)
    ]


def requests(count: int, **body: Any) -> list[dict[str, Any]]:
    """Lines of a batch."""
    return [
        {
            "custom_id": f"request-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": [message("user", f"{n}?")], **body},
        }
        for n in range(count)
    ]
