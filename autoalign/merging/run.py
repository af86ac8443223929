"""Run a merge: open, compare, stream, describe."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from autoalign import compat, manifest, model_folder
from autoalign.config.merge import MergeConfig
from autoalign.merging import shards
from autoalign.merging.agreement import EMBEDDINGS, HEAD, is_tied, reconcile
from autoalign.merging.folder import copy_tokenizer, merged_config, refuse_output, written_whole
from autoalign.merging.inputs import Inputs, below, open_inputs, tokenizer_folders
from autoalign.merging.methods import Method, build
from autoalign.merging.progress import MergeProgress, say
from autoalign.merging.source import Source
from autoalign.merging.stream import Merger
from autoalign.merging.tensor_file import TensorSpec

_OPTIONS = ("normalize", "t", "scale", "density", "seed")


class MergeReport(NamedTuple):
    """What came out; `bytes` of weights, `seconds` for all of it."""

    output_dir: Path
    method: str
    tensors: int
    bytes: int
    seconds: float


def run(config: MergeConfig) -> MergeReport:
    """Merge, and write a model folder that appears whole or not at all.

    Raises:
        ConfigError: method, options, weights or output folder are wrong.
        ModelError: a model is missing or damaged, or the models don't belong together.
        JobFailed: writing failed.
    """
    began = time.monotonic()
    method = build(config.method, **{key: getattr(config, key) for key in _OPTIONS})
    inputs = open_inputs(config, method)
    folder = Path(config.output_dir).expanduser().resolve()
    refuse_output(folder, inputs.folders, config.overwrite)
    tokenizer = _tokenizer_folders(config, inputs)
    merger = _merger(method, inputs)
    specs = _specs(merger.models[0], config.dtype)
    total = sum(spec.bytes for spec in specs.values())
    say(f"{method.name} of {', '.join(config.models)}: {len(specs)} tensors, {total / 1e9:.2f} GB")
    with written_whole(folder, total) as partial:
        _write_weights(partial, merger, shards.plan(specs, int(config.max_shard_size * 1e9)))
        copy_tokenizer(tokenizer, partial)
        _write_config(partial, inputs, specs, config.dtype)
        compat.make_loadable_by_transformers_4(partial)
        say("hashing the files")
        made_by = {"job": "merge", "config": config.model_dump(mode="json"), "method": method.name}
        manifest.write(partial, {**made_by, "options": asdict(method.options), **inputs.record()})
    return MergeReport(Path(config.output_dir), method.name, len(specs), total, time.monotonic() - began)


def _tokenizer_folders(config: MergeConfig, inputs: Inputs) -> list[Path]:
    if config.tokenizer_source is not None:
        return [model_folder.find(config.tokenizer_source)]
    return tokenizer_folders(inputs.models[0])


def _merger(method: Method, inputs: Inputs) -> Merger:
    alike = reconcile([*inputs.models, *([inputs.base] if inputs.base else [])])
    count = len(inputs.models)
    return Merger(method, alike[:count], inputs.weights, alike[count] if inputs.base else None)


def _specs(first: Source, dtype: str) -> dict[str, TensorSpec]:
    """Names, shapes and types of the merged tensors."""
    specs = dict(first.specs)
    if dtype == "auto":
        return specs
    wanted: torch.dtype = getattr(torch, dtype)
    return {
        name: spec._replace(dtype=wanted) if spec.dtype.is_floating_point else spec
        for name, spec in specs.items()
    }


def _write_weights(folder: Path, merger: Merger, files: list[shards.Shard]) -> None:
    total = sum(spec.bytes for shard in files for spec in shard.specs.values())
    with MergeProgress(total) as progress:
        for shard in files:
            shards.write_shard(folder, shard, _pieces(merger, shard, progress))
    shards.write_index(folder, files)


def _pieces(merger: Merger, shard: shards.Shard, progress: MergeProgress) -> Iterator[Tensor]:
    for name, spec in shard.specs.items():
        for piece in merger.pieces(name, spec):
            yield piece
            progress.advance(piece.nbytes)


def _write_config(folder: Path, inputs: Inputs, specs: Mapping[str, TensorSpec], dtype: str) -> None:
    """The first model's config, true to the weights that were written."""
    first = inputs.models[0]
    content = merged_config(first.config, None if dtype == "auto" else dtype)
    before = below(first).specs
    for name, spec in specs.items():
        # An adapter may have trained an embedding with added tokens.
        if name.endswith(EMBEDDINGS) and name in before and spec.shape != before[name].shape:
            content["vocab_size"] = spec.shape[0]
    # A tied model may store its head all the same: with an untied one it is a weight of its own.
    sources = [*inputs.models, *([inputs.base] if inputs.base else [])]
    if HEAD in specs and (HEAD not in before or not all(map(is_tied, sources))):
        content["tie_word_embeddings"] = False
    manifest.write_json(folder / "config.json", content)
