"""Model folders that transformers 4 loads as well as transformers 5.

transformers 5 saves three things that transformers 4.57 cannot read, or reads
wrongly without a word: a tokenizer class named `TokenizersBackend`, special
tokens as a list under `extra_special_tokens`, and the rotary base only inside
`rope_parameters` (4.57 then falls back to 10000, which spoils every answer).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoalign.atomic_files import write_text
from autoalign.errors import ModelError

_TOKENIZER_SESSION_KEYS = ("backend", "is_local", "local_files_only")
_V4_INPUTS = ["input_ids", "attention_mask"]


def make_loadable_by_transformers_4(folder: str | Path) -> None:
    """Rewrite `config.json` and `tokenizer_config.json` so that both majors read the same model.

    Keys are added, and those that only describe the saving session are removed;
    transformers 5 still finds its own. A second call changes nothing. Weight files
    that were saved for their owner alone get the modes of a newly made file.

    Raises:
        ModelError: `config.json` is missing, or one of the two files is not a JSON object.
    """
    folder = Path(folder)
    _rewrite(folder / "config.json", config_for_both)
    if (folder / "tokenizer_config.json").exists():
        _rewrite(folder / "tokenizer_config.json", tokenizer_config_for_both)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(_new_file_mode())


def tokenizer_config_for_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` that both majors read; the ids they give are the same."""
    result = {key: value for key, value in config.items() if key not in _TOKENIZER_SESSION_KEYS}
    if result.get("tokenizer_class") in (None, "TokenizersBackend"):
        result["tokenizer_class"] = "PreTrainedTokenizerFast"
        # Without it 4.57 returns token_type_ids, which a causal model's forward refuses.
        result.setdefault("model_input_names", _V4_INPUTS)
    if isinstance(result.get("extra_special_tokens"), list):
        tokens = result.pop("extra_special_tokens")
        if tokens:
            result.setdefault("additional_special_tokens", tokens)
    return result


def config_for_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """A `config.json` with the rotary settings where each major looks for them.

    Configs nested in it (`text_config` of a multimodal model) are treated alike.
    """
    result = {key: value for key, value in config.items() if key != "_model_name_or_path"}
    for key, value in result.items():
        if key.endswith("_config") and isinstance(value, Mapping):
            result[key] = config_for_both(value)
    rope = result.get("rope_parameters")
    if isinstance(rope, Mapping):
        result.update(_rope_keys_of_4(rope))
    return result


def _rope_keys_of_4(rope: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta`, `rope_scaling` and the like, from transformers 5's `rope_parameters`."""
    if isinstance(rope.get("full_attention"), Mapping):  # Gemma 3: one set a layer type
        keys = _rope_keys_of_4(rope["full_attention"])
        local = rope.get("sliding_attention")
        if isinstance(local, Mapping) and "rope_theta" in local:
            keys["rope_local_base_freq"] = local["rope_theta"]
        return keys
    top = ("rope_theta", "partial_rotary_factor")
    keys = {key: rope[key] for key in top if rope.get(key) is not None}
    if rope.get("rope_type", "default") != "default":
        keys["rope_scaling"] = {key: value for key, value in rope.items() if key not in top}
    return keys


def _rewrite(path: Path, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: not a model folder: {path.name} is missing") from None
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(before, dict):
        raise ModelError(f"{path}: a JSON object is expected, found {type(before).__name__}")
    after = change(before)
    if after == before:
        return
    write_text(path, json.dumps(after, indent=2, ensure_ascii=False) + "\n")


def _new_file_mode() -> int:
    """What a newly made file gets here: 0666 less the umask."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
