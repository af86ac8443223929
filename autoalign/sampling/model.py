"""A model folder seen from sampling: is it whole, what context has it, how are its prompts rendered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoalign import chat
from autoalign.errors import ModelError
from autoalign.records import Message
from autoalign.sampling.prompts import Tools

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def find_model(model_path: str) -> Path:
    """The folder of a local model, or of one in the Hugging Face cache.

    Raises:
        ModelError: there is none, or `config.json`, weights or tokenizer are missing.
    """
    folder = Path(model_path).expanduser()
    if not folder.is_dir():
        folder = _cached(model_path)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: not a model folder: config.json is missing")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ModelError(f"{folder}: no weights (*.safetensors) in this model folder")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder}: no tokenizer in this model folder: copy tokenizer.json and tokenizer_config.json"
        )
    return folder.resolve()


def context_length(folder: Path) -> int | None:
    """How many tokens the model holds, prompt and answer together; None where its config does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'}: not valid JSON: {error}") from None
    for part in (config, config.get("text_config") or {}):
        for key in _CONTEXT_KEYS:
            if isinstance(part.get(key), int):
                return int(part[key])
    return None


class ChatRenderer:
    """Renders and tokenises with a model's tokenizer and a chat template."""

    def __init__(
        self,
        folder: Path,
        template: str | None,
        max_model_len: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._tokenizer = load_tokenizer(folder, trust_remote_code)
        self._template = chat.get_template(template, self._tokenizer)
        own = context_length(folder)
        if max_model_len is not None and own is not None and max_model_len > own:
            raise ModelError(
                f"{folder}: max_model_len is {max_model_len}, but the model's context is {own} tokens"
            )
        self.context = max_model_len or own
        ids = chat.stop_token_ids(self._template, self._tokenizer)
        end = self._tokenizer.eos_token_id
        self.stop_token_ids = tuple(dict.fromkeys([*ids, *([] if end is None else [end])]))
        self.stop_strings = tuple(self._unusual_ends())

    def encode(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Token ids of the prompt, the assistant's header included."""
        return chat.encode_prompt(messages, self._tokenizer, self._template, tools=tools or None)

    def _unusual_ends(self) -> list[str]:
        """End markers that this tokenizer has no single token for; they stop an answer as text."""
        texts = chat.stop_strings(self._template, self._tokenizer)
        return [
            text for text in texts if len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) != 1
        ]


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The folder's tokenizer.

    Raises:
        ModelError: transformers can't load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: the tokenizer can't be loaded: {error}") from error


def _cached(model_path: str) -> Path:
    """The folder of a hub model that was fetched before; nothing is downloaded here."""
    missing = ModelError(
        f"{model_path}: no such model folder; 'autoalign-cli models fetch NAME' gets the demo model "
        "(smollm2-135m-instruct) or one from the Hugging Face hub (ORG/NAME)"
    )
    if model_path.count("/") != 1 or model_path.startswith((".", "/", "~")):
        raise missing
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model_path, local_files_only=True))
    except (ImportError, OSError, ValueError):
        raise missing from None
