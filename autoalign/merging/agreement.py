"""Do the models belong together? Same architecture, tensors, shapes and vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.errors import ModelError
from autoalign.merging.source import Renamed, Source

HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
# What shapes alone don't show, and what no average makes sense of.
_SAME_IN_CONFIG = ("model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act")
# Computed from the config; some checkpoints store it, newer ones don't.
_COMPUTED = ".rotary_emb.inv_freq"


def reconcile(sources: Sequence[Source]) -> list[Source]:
    """The sources with the same tensors, checked; the first one is the measure.

    A head that some models store and others share with their embedding is left out where all
    share it, and else read from the embedding.

    Raises:
        ModelError: they differ in architecture, tensors, shapes or vocabulary.
    """
    first, *others = sources
    for other in others:
        _require_same_config(first, other)
        _require_same_vocabulary(first, other)
    alike = _with_same_heads(sources)
    for other in alike[1:]:
        _require_same_tensors(alike[0], other)
    return alike


def is_tied(source: Source) -> bool:
    """Whether its config has the head share the embedding."""
    return bool(source.config.get("tie_word_embeddings", True))


def _require_same_config(first: Source, other: Source) -> None:
    for key in _SAME_IN_CONFIG:
        a, b = first.config.get(key), other.config.get(key)
        if a is not None and b is not None and a != b:
            raise ModelError(
                f"{other.label}: {key} is {b!r}, but {a!r} in {first.label}; "
                "only models of one architecture can be merged"
            )


def _require_same_tensors(first: Source, other: Source) -> None:
    a, b = first.specs, other.specs
    for one, names, lacking in ((first, a.keys() - b.keys(), other), (other, b.keys() - a.keys(), first)):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ModelError(f"tensor {min(names)}{more} is in {one.label}, but not in {lacking.label}")
    for name, spec in a.items():
        if spec.shape != b[name].shape:
            shapes = f"{list(spec.shape)} in {first.label}, {list(b[name].shape)} in {other.label}"
            raise ModelError(f"tensor {name} is {shapes}{_vocabulary_hint(name)}")
        if spec.dtype != b[name].dtype and not (
            spec.dtype.is_floating_point and b[name].dtype.is_floating_point
        ):
            raise ModelError(
                f"tensor {name} is {spec.dtype} in {first.label}, {b[name].dtype} in {other.label}"
            )


def _vocabulary_hint(name: str) -> str:
    if name.endswith((HEAD, *EMBEDDINGS)):
        return "; their vocabularies differ in size: resize one model's embeddings to the other's tokenizer"
    return ""


def _with_same_heads(sources: Sequence[Source]) -> list[Source]:
    heads = [HEAD in source.specs for source in sources]
    shared = all(map(is_tied, sources))
    wanted = all(heads) or (any(heads) and not shared)
    return [_renamed(source, wanted) for source in sources]


def _renamed(source: Source, head: bool) -> Source:
    names = {name: name for name in source.specs if name != HEAD and not name.endswith(_COMPUTED)}
    if head:
        names[HEAD] = HEAD if HEAD in source.specs else _embedding(source)
    return source if names.keys() == source.specs.keys() else Renamed(source, names)


def _embedding(source: Source) -> str:
    found = [name for name in source.specs if name.endswith(EMBEDDINGS)]
    if len(found) != 1:
        raise ModelError(f"tensor {HEAD} is not in {source.label}, but in another model that is merged")
    return found[0]


def _require_same_vocabulary(first: Source, other: Source) -> None:
    """Tokens that were added later may differ: reserved ones get a name in fine-tuning."""
    a, b = _vocabulary(first.folder), _vocabulary(other.folder)
    differing = sorted(token for token in a.keys() & b.keys() if a[token] != b[token])
    if a and b and (differing or len(a) != len(b)):
        example = (
            f"token {differing[0]!r} has id {b[differing[0]]}, but {a[differing[0]]}"
            if differing
            else f"{len(b)} tokens, but {len(a)}"
        )
        raise ModelError(
            f"{other.label}: another vocabulary ({example} in {first.label}); "
            "the rows of their embeddings stand for different tokens"
        )


def _vocabulary(folder: Path) -> Mapping[str, int]:
    """Token to id of a fast tokenizer's model; empty where there is none to read."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    try:
        model: Any = json.loads(path.read_text(encoding="utf-8")).get("model", {})
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    vocabulary = model.get("vocab", {})
    if isinstance(vocabulary, list):  # Unigram: [[piece, score], ...]
        return {piece: place for place, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)
