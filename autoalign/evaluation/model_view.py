"""A model folder as an evaluation sees it: links to the weights, with the chat template that was asked for.

What answers then renders and stops as training did, whether it is vLLM or transformers 4 or 5.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import chat, model_folder
from autoalign.atomic_files import write_text
from autoalign.compat import make_loadable_by_transformers_4
from autoalign.errors import ConfigError, ModelError

_OWN_FILES = ("config.json", "tokenizer_config.json", "generation_config.json")


class Rendering(NamedTuple):
    """How the model is asked: its chat template, and the token ids that end an answer."""

    template: chat.Template
    ends: list[int]


def rendering_of(model: Path, template_name: str | None, trust_remote_code: bool) -> Rendering:
    """Looked up before anything is written.

    Raises:
        TemplateError: no such template.
        ModelError: the tokenizer can't be loaded.
        ConfigError: the model brings code, and `trust_remote_code` is off.
    """
    if not trust_remote_code:
        _refuse_code(model)
    tokenizer = model_folder.load_tokenizer(model, trust_remote_code)
    template = chat.get_template(template_name, tokenizer)
    return Rendering(template, chat.stop_token_ids(template, tokenizer))


def make_view(model: Path, view: Path, rendering: Rendering) -> Path:
    """Make the folder anew."""
    template, ends = rendering
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True)
    for file in model.iterdir():
        if file.is_file() and file.name not in (*_OWN_FILES, "chat_template.jinja"):
            (view / file.name).symlink_to(file.resolve())
    for name in _OWN_FILES:
        if (model / name).is_file():
            (view / name).write_bytes((model / name).read_bytes())
    (view / "chat_template.jinja").write_text(template.source, encoding="utf-8")
    _change(view / "tokenizer_config.json", {"chat_template": None})
    if ends:
        _change(view / "generation_config.json", {"eos_token_id": ends if len(ends) > 1 else ends[0]})
    make_loadable_by_transformers_4(view)
    return view


def word_counter(folder: Path) -> Path:
    """A tokenizer whose tokens are words, for models that are only known by an endpoint.

    OpenCompass wants some tokenizer to look whether a prompt fits, and would fetch one from the internet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(plain), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _refuse_code(model: Path) -> None:
    """OpenCompass's OpenAI model class runs a tokenizer's code unasked."""
    for name in ("config.json", "tokenizer_config.json"):
        file = model / name
        if file.is_file() and "auto_map" in _read(file):
            raise ConfigError(f"{file} names Python code of its own; --trust_remote_code runs it")


def _change(file: Path, values: dict[str, Any]) -> None:
    """Set keys of a JSON file; None takes one out."""
    merged = {**(_read(file) if file.is_file() else {}), **values}
    kept = {key: value for key, value in merged.items() if value is not None}
    write_text(file, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file}: not valid JSON: {error}") from None
    return found if isinstance(found, dict) else {}
