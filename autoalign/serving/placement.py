"""Where a request for a model goes, or why it goes nowhere."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_NAME = 400  # characters of a model's id


def is_name(text: str) -> bool:
    """Whether a model may be called so; what is not is looked up nowhere."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter; `digest` tells one state of its folder from another."""

    id: str
    folder: str
    digest: str


@dataclass(frozen=True)
class Placement:
    """The Ray Serve application whose engine answers.

    Args:
        adapter: the LoRA adapter to answer with.
    """

    app_name: str
    adapter: Adapter | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered.

    Args:
        status: HTTP status.
        code: OpenAI's name of the error.
        retry_after: seconds after which another try makes sense.
    """

    status: int
    message: str
    code: str | None = None
    retry_after: int | None = None


def unknown_model(name: str) -> Refusal:
    """No model of that name, as OpenAI says it."""
    message = f"The model '{name}' does not exist; GET /v1/models lists those there are."
    return Refusal(404, message, "model_not_found")


def busy(seconds: int = 1) -> Refusal:
    """All queues are full."""
    message = "All engines are busy and the queue is full; try again later."
    return Refusal(429, message, "rate_limit_exceeded", seconds)
