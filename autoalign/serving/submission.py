"""How a job comes in, by whichever route: with its model's template, and a line that names its request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from autoalign.errors import UnknownName
from autoalign.jobs import kinds
from autoalign.jobs.platform import Order, Platform
from autoalign.jobs.tables import JobRow
from autoalign.serving.access import principal_of
from autoalign.serving.request_log import request_id_of

TemplateOf = Callable[[str], str | None]
_MODEL_KEYS = ("model_name_or_path", "model_path")
_TEMPLATE_KEYS = ("conv_template_name", "template", "template_name")
log = logging.getLogger("autoalign.serving.requests")


def no_template(model: str) -> None:
    """Of models that are all served with their folder's own."""


@dataclass(frozen=True)
class Submission:
    """Submits jobs to a platform.

    A job on a model that the endpoint serves with a template (`--template`) has that template too, where it
    names none: what it trains on and what it answers is rendered as the endpoint's chats are.

    Args:
        template_of: the template that the operator serves a model with; None: its folder's own.
    """

    platform: Platform
    template_of: TemplateOf = no_template

    def __call__(self, request: Request, order: Order) -> JobRow:
        """Check a job's config and queue it.

        Raises:
            InvalidField: the kind or a key is wrong.
            TooManyJobs: the user has too many waiting.
        """
        job = self.platform.submit(principal_of(request), order, self._given(order))
        log.info("%s queued %s", request_id_of(request.scope), job.id)
        return job

    def _given(self, order: Order) -> dict[str, str]:
        """The template, by the name that the job's kind has for it, where there is one.

        The operator may name any file; of a job's own keys none leads out of the roots.
        """
        key, template = template_key(order), self._template(order)
        return {} if key is None or template is None else {key: template}

    def _template(self, order: Order) -> str | None:
        """That of the job's model, unless another model was promoted to its name."""
        named = next((order.config[key] for key in _MODEL_KEYS if key in order.config), None)
        if not isinstance(named, str) or (template := self.template_of(named)) is None:
            return None
        return template if self.platform.models.promoted(named) is None else None


def template_key(order: Order) -> str | None:
    """What the job's kind calls its model's chat template; None where it has none, or the job sets it."""
    try:
        fields = kinds.load(order.kind).config.model_fields
    except UnknownName:
        return None
    key = next((key for key in _TEMPLATE_KEYS if key in fields), None)
    return None if key in order.config else key
