"""`autoalign-cli chat`: the terminal around `ChatSession`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoalign.cli.flags import config_from_args
from autoalign.config.chat import ChatConfig
from autoalign.errors import AutoAlignError, ModelError, TemplateError
from autoalign.records import messages_to_dicts
from autoalign.sampling.conversation import COMMANDS, ChatError, ChatSession, parse_command
from autoalign.sampling.engines.base import (
    Engine,
    EngineDead,
    GenerationRequest,
    RequestFailed,
    create_engine,
    derive_seed,
)
from autoalign.sampling.setup import Setup, has_gpu, prepare_model

_HISTORY = Path("~/.autoalign_chat_history").expanduser()
_HISTORY_LINES = 1000


def chat(args: Sequence[str]) -> int:
    """Read lines, stream answers; from a pipe, answer each line and leave."""
    config = config_from_args(ChatConfig, args, "autoalign-cli chat")
    setup = prepare_model(config)
    with _Model(config, setup) as model:
        repl = Repl(ChatSession(config.system_message), model.answer)
        if sys.stdin.isatty():
            print(f"talking to {config.model_path}; /help lists the commands")
        with _history():
            return repl.run()


Answer = Callable[[ChatSession], Iterator[str]]


class Repl:
    """Reads lines until the end; `answer` streams the reply to a session."""

    def __init__(self, session: ChatSession, answer: Answer) -> None:
        self._session, self._answer = session, answer
        self._terminal = sys.stdin.isatty()
        self._failed = False

    def run(self) -> int:
        """0, or from a pipe 1 when a question got no answer."""
        while (line := self._read()) is not None:
            try:
                if not self._handle(line):
                    break
            except (ChatError, TemplateError, RequestFailed) as error:
                self._failed = True
                print(f"error: {error}", file=sys.stderr)
        return int(self._failed and not self._terminal)

    def _read(self) -> str | None:
        if not self._terminal:
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        try:
            return input("> ")
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit leaves)")
            return ""

    def _handle(self, line: str) -> bool:
        """Do what `line` says; False ends the chat."""
        command = parse_command(line)
        if command is not None:
            return self._do(*command)
        if line.strip():
            self._session.ask(line.strip())
            self._reply()
        return True

    def _do(self, name: str, rest: str) -> bool:
        session = self._session
        if name == "/exit":
            return False
        if name == "/help":
            print("\n".join(f"  {command:<8} {meaning}" for command, meaning in COMMANDS.items()))
        elif name == "/regen":
            session.regenerate()
            self._reply()
        elif name == "/save":
            if not rest:
                raise ChatError("/save needs a file name")
            session.save(Path(rest).expanduser())
            print(f"(saved to {rest})")
        else:
            self._change(name, rest)
            print("(done)")
        return True

    def _change(self, name: str, rest: str) -> None:
        if name == "/reset":
            self._session.reset()
        elif name == "/undo":
            self._session.undo()
        else:
            self._session.set_system(rest)

    def _reply(self) -> None:
        """Print the pieces as they come; Ctrl-C keeps what was said so far."""
        said: list[str] = []
        try:
            with contextlib.closing(self._answer(self._session)) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    said.append(piece)
                    print(piece, end="", flush=True)
        except KeyboardInterrupt:
            if not self._terminal:
                raise
        except AutoAlignError:
            self._session.take_back_question()
            raise
        print()
        self._session.answered("".join(said).strip())


class _Model:
    """An engine on an event loop of its own thread, so that the REPL stays plain code."""

    def __init__(self, config: ChatConfig, setup: Setup) -> None:
        self._config, self._setup = config, setup
        self._seed = random.SystemRandom().getrandbits(31) if config.seed is None else config.seed
        self._loop = asyncio.new_event_loop()
        self._count = 0

    def __enter__(self) -> _Model:
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        options = replace(self._setup.options, use_gpu=self._config.backend in ("hf", "vllm") and has_gpu())
        self._engine: Engine = self._wait(create_engine(self._config.backend, options))
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def answer(self, session: ChatSession) -> Iterator[str]:
        """Pieces of the reply; the first one without leading space."""
        renderer, messages = self._setup.renderer, session.messages
        token_ids = tuple(renderer.encode(messages))
        if renderer.context is not None and len(token_ids) >= renderer.context:
            raise RequestFailed(
                f"the conversation has {len(token_ids)} tokens, the context holds {renderer.context}; "
                "/undo or /reset"
            )
        self._count += 1
        request = GenerationRequest(
            id=f"chat-{self._count}",
            messages=tuple(messages_to_dicts(messages)),
            token_ids=token_ids,
            params=self._setup.params,
            seed=derive_seed(self._seed, str(len(session.turns)), session.tries),
        )
        stream = self._engine.stream(request)
        try:
            yield from self._pieces(stream)
        except EngineDead as error:
            raise ModelError(str(error)) from error
        finally:
            self._wait(stream.aclose())  # type: ignore[attr-defined]

    def _pieces(self, stream: AsyncIterator[str]) -> Iterator[str]:
        begun = False
        while (piece := self._wait(anext(stream, None))) is not None:
            piece = piece if begun else piece.lstrip()
            begun = begun or bool(piece)
            if piece:
                yield piece

    def _wait(self, coroutine: Any) -> Any:
        async def run() -> Any:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Arrow keys bring back earlier lines, also those of earlier chats; only on a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import readline

    with contextlib.suppress(OSError):
        readline.read_history_file(_HISTORY)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(_HISTORY)
