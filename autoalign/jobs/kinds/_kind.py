"""What a kind of job is to the platform."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from autoalign.config.base import JobConfig


class Role(Enum):
    """What a text in a config means, and so what a user of the platform may write there."""

    TEXT = "any text: it names nothing outside the job"
    NAME = "a plain name: letters, digits, . _ -"
    MODEL = "a model of the registry, a folder below a root, or ORG/NAME on the hub"
    DATA = "an uploaded file's id, or a file below a root"
    CHOICE = "a name that AutoAlign knows, or a file below a root"
    OUTPUT = "where results go: relative to the job's own folder"
    CLOSED = "the platform's own affair: jobs may not set it"


Roles = Mapping[str, Role]


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        config: its strict config class.
        command: the `autoalign-cli` command that runs it.
        roles: for every key that holds text, what it means. A key that is left out can't be set.
        outputs: where results go when nothing else is said, relative to the job's folder.
        makes_model: its output folder is a model that is registered when it succeeds.
        resumes: started again, it goes on from what it has saved.
        nested: for a key that holds a mapping, the roles of the keys in it; `*` is any other. Where one of
            these holds a mapping again, its roles are under `KEY.*`.
        model_named_by: (file, key) of a JSON file in `out` that says which folder the model is;
            None: `out` itself.
    """

    config: type[JobConfig]
    command: str
    roles: Roles
    outputs: Mapping[str, str] = field(default_factory=dict)
    makes_model: bool = False
    resumes: bool = True
    nested: Mapping[str, Roles] = field(default_factory=dict)
    model_named_by: tuple[str, str] | None = None

    def role(self, key: str) -> Role:
        """The role of a key; keys without text (numbers, flags, fixed choices) are free."""
        if key in self.roles:
            return self.roles[key]
        return Role.CLOSED if holds_text(self.config.model_fields[key].annotation) else Role.TEXT


def holds_text(annotation: Any) -> bool:
    """Whether a value of this type may be text of the user's choice."""
    if annotation in (str, Any):
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return holds_text(get_args(annotation)[0])
    if origin in (Union, types.UnionType, list, tuple, dict):
        return any(holds_text(part) for part in get_args(annotation))
    return False
