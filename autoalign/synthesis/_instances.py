"""Instances of a task as Self-Instruct's prompts ask for them: fields in lines of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from autoalign.synthesis._job import Reply

_FIELD = re.compile(r"^\s*\**(class label|label|input|output)\**\s*:\**[ \t]*", re.IGNORECASE | re.MULTILINE)
_EXAMPLE = re.compile(r"^\s*(?:#+\s*)?\**example\s*\d*\**\s*[:.]?\**\s*$", re.IGNORECASE | re.MULTILINE)
_NOTHING = {"", "none", "n/a", "<noinput>", "(none)", "-"}


class Instance(NamedTuple):
    """An input, empty where the instruction says it all, and its output."""

    input: str
    output: str


def read_instances(reply: Reply, label_first: bool) -> list[Instance]:
    """The instances of a text of `Input:` and `Output:` fields, or of `Class label:` and `Input:`.

    An `Output:` without an input is one with an empty input. The last instance of a text that was
    cut off is left out.
    """
    if reply.finish_reason == "error":
        return []
    pairs = list(_instances(_fields(_EXAMPLE.sub("", reply.text)), label_first))
    return pairs[:-1] if reply.finish_reason == "length" else pairs


def _fields(text: str) -> list[tuple[str, str]]:
    marks = list(_FIELD.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        (mark[1].lower().removeprefix("class "), text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]


def _instances(fields: Sequence[tuple[str, str]], label_first: bool) -> Iterator[Instance]:
    opens, closes = ("label", "input") if label_first else ("input", "output")
    held = ""
    for name, value in fields:
        if name == opens:
            held = value
        elif name == closes:
            given, said = (value, held) if label_first else (held, value)
            yield Instance("" if given.lower() in _NOTHING else given, said)
            held = ""


def refuse_instances(instances: Sequence[Instance]) -> Iterator[tuple[Instance, str | None]]:
    """Each instance, with why it is dropped or None."""
    outputs: dict[str, set[str]] = {}
    for instance in instances:
        outputs.setdefault(instance.input, set()).add(instance.output)
    conflict = any(len(given) > 1 for given in outputs.values())
    seen: set[Instance] = set()
    for instance in instances:
        yield instance, "one input with two outputs" if conflict else _refused(instance, instance in seen)
        seen.add(instance)


def _refused(instance: Instance, repeated: bool) -> str | None:
    if not instance.output:
        return "an instance without an output"
    if instance.output == instance.input:
        return "the output repeats the input"
    return "an instance that was there before" if repeated else None
