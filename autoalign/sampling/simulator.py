"""Who speaks between the answers of a conversation: a model that plays the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autoalign.config.engine import EngineConfig
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.prompts import Renderer
from autoalign.sampling.setup import Setup, prepare_model

PROMPT = Path(__file__).resolve().parents[1] / "prompts" / "user_simulator" / "user.txt"
_LABEL = re.compile(r"^\s*(user|human|person)\s*:\s*", re.IGNORECASE)
_OTHER_SIDE = re.compile(r"\n\s*(assistant|ai)\s*:", re.IGNORECASE)
_QUOTES = ('""', "''", "“”")


@dataclass(frozen=True)
class UserSimulator:
    """A model, and what it is asked.

    Attributes:
        renderer: of the request.
        prompt: Jinja text of the request; knows `conversation` and `turn`.
        system_message: in front of it.
        backend, model, options: its engine; none: the answers' own.

    What `repr` tells is what its words depend on: it goes into the ledger's keys, with the model's digest.
    """

    renderer: Renderer = field(repr=False)
    params: SamplingParams
    prompt: str
    system_message: str | None = None
    backend: str | None = None
    model: str | None = field(default=None, repr=False)
    options: EngineOptions | None = field(default=None, repr=False)

    def ask(self, messages: Sequence[Mapping[str, Any]], turn: int) -> list[Message]:
        """What the model is asked, to get the user's message `turn` (the first is the prompt's own)."""
        said = "\n\n".join(f"{m['role']}: {m['content']}" for m in messages if m["role"] != "system")
        text = _filled(self.prompt, said, turn)
        system = [] if self.system_message is None else [Message("system", self.system_message)]
        return [*system, Message("user", text)]


def simulator_of(config: InferConfig, setup: Setup) -> UserSimulator:
    """The simulator that a config names; `setup` is the answers'.

    Raises:
        ConfigError: a prompt that can't be read, or asks for what is not there.
        ModelError: no such model.
    """
    prompt = _read(Path(config.user_prompt).expanduser() if config.user_prompt else PROMPT)
    other = _other_engine(config)
    renderer = setup.renderer if other is None else other.renderer
    params = SamplingParams(
        temperature=setup.params.temperature if config.user_temperature is None else config.user_temperature,
        top_p=setup.params.top_p,
        max_new_tokens=config.user_max_new_tokens,
        stop=renderer.stop_strings,
        stop_token_ids=renderer.stop_token_ids,
    )
    return UserSimulator(
        renderer,
        params,
        prompt,
        config.user_system_message,
        None if other is None else config.user_backend or config.backend,
        None if other is None else other.options.model,
        None if other is None else other.options,
    )


def spoken(text: str) -> str:
    """The user's message alone: without a name in front, quotation marks around, or the other side behind."""
    text = _OTHER_SIDE.split(_LABEL.sub("", text), maxsplit=1)[0].strip()
    quoted = len(text) > 1 and f"{text[0]}{text[-1]}" in _QUOTES
    return text[1:-1].strip() if quoted else text


def _other_engine(config: InferConfig) -> Setup | None:
    """The simulator's own engine; None where it is the answers'."""
    if config.user_model in (None, config.model_path) and config.user_backend in (None, config.backend):
        return None
    shared = ("api_key_env", "max_retries", "timeout", "dtype", "trust_remote_code", "concurrency")
    values = {name: getattr(config, name) for name in shared}
    values |= {"backend": config.user_backend or config.backend, "base_url": config.user_base_url}
    values |= {"model_path": config.user_model or config.model_path}
    if values["backend"] == config.backend:
        values["base_url"] = config.user_base_url or config.base_url
    setup = prepare_model(EngineConfig.build(values))
    # Both models lie in the same actor's GPUs.
    share = config.gpu_memory_utilization / 2
    return setup._replace(options=replace(setup.options, gpu_memory_utilization=share))


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"user_prompt {path} can't be read: {error}") from None
    try:
        _filled(text, "", 2)
    except TemplateError as error:
        raise ConfigError(f"user_prompt {path}: {error}; it has: conversation, turn") from None
    return text


def _filled(prompt: str, conversation: str, turn: int) -> str:
    return _compiled(prompt).render(conversation=conversation, turn=turn).strip()


@lru_cache(maxsize=8)
def _compiled(prompt: str) -> Template:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(prompt)
