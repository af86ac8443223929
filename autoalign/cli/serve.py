"""`autoalign-cli serve`."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence

from autoalign.cli.flags import config_from_args
from autoalign.config.serve import ServeConfig


def serve(args: Sequence[str]) -> int:
    """An endpoint, an endpoint with a chat page, or a chat in the terminal; `serve platform`: jobs too."""
    if args and args[0] == "platform":
        args = ["--jobs", "true", *args[1:]]
    config = config_from_args(ServeConfig, args, "autoalign-cli serve")
    if config.mode == "cli":
        return _in_terminal(config)
    from autoalign.serving.run import run

    def say(text: str) -> None:
        print(text, flush=True)
        if config.mode == "browser" and text.startswith("ready on "):
            webbrowser.open(text.split()[2])

    return run(config, say)


def _in_terminal(config: ServeConfig) -> int:
    """The chat of `autoalign-cli chat`, with the engine that serves."""
    from autoalign.cli.chat import chat

    flags = ["--backend=vllm", f"--model_path={config.checkpoint_path}", f"--dtype={config.dtype}"]
    if config.template is not None:
        flags.append(f"--template={config.template}")
    if config.max_model_len is not None:
        flags.append(f"--max_model_len={config.max_model_len}")
    if config.trust_remote_code:
        flags.append("--trust_remote_code")
    return chat(flags)
