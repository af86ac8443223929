"""Engine options and prompt renderer of a job, from its config; wrong models are found here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import model_folder
from autoalign.config.chat import ChatConfig
from autoalign.config.counts import most
from autoalign.config.engine import EngineConfig
from autoalign.errors import ConfigError
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.prompts import PlainRenderer, Renderer
from autoalign.sampling.renderer import ChatRenderer
from autoalign.sampling.sweep import SWEPT


class Setup(NamedTuple):
    """What a job generates with."""

    options: EngineOptions
    params: SamplingParams
    renderer: Renderer


def has_gpu() -> bool:
    """Whether PyTorch finds one in this machine."""
    import torch

    return torch.cuda.is_available()


def prepare_model(config: EngineConfig | ChatConfig) -> Setup:
    """Check the model folder, load its tokenizer, find its template; nothing is started.

    Raises:
        ModelError: the folder is missing, incomplete, or its context too short.
        TemplateError: no such template.
    """
    given = config.model_dump()
    known = {field.name: given[field.name] for field in fields(EngineOptions) if field.name in given}
    known.update(_of_endpoints(given))
    options = EngineOptions(model=config.model_path or str(given.get("model_name")), **known)
    renderer: Renderer = PlainRenderer()
    if config.backend != "openai":
        folder = model_folder.find(options.model, fetch=True)
        options = replace(options, model=str(folder))
        renderer = ChatRenderer(folder, config.template, config.max_model_len, config.trust_remote_code)
    params = {field.name: given[field.name] for field in fields(SamplingParams) if field.name in given}
    # Of a sweep the first value; `sweep.Sweep` makes the others.
    params.update({name: value[0] for name in SWEPT if isinstance(value := params.get(name), list)})
    if params.get("json_schema") is not None:
        params["json_schema"] = _schema_text(Path(params["json_schema"]).expanduser())
    params["stop"] = (*given.get("stop", ()), *renderer.stop_strings)
    return Setup(options, SamplingParams(**params, stop_token_ids=renderer.stop_token_ids), renderer)


def _of_endpoints(given: Mapping[str, Any]) -> dict[str, Any]:
    """URLs as a tuple; the model's name there; of the job's limits what one replica may use."""
    urls = given.get("base_url")
    found: dict[str, Any] = {
        "base_url": (urls,) if isinstance(urls, str) else tuple(urls or ()),
        "served_model": given.get("model_name"),
    }
    for name in ("requests_per_minute", "tokens_per_minute"):
        if given.get(name) is not None:
            found[name] = given[name] / most(given["num_replicas"])
    return found


def _schema_text(path: Path) -> str:
    """The schema in a file, checked.

    Raises:
        ConfigError: it can't be read, or is no JSON schema.
    """
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"json_schema {path}: {error}") from None
    if not isinstance(schema, dict):
        raise ConfigError(f'json_schema {path}: a JSON object is expected, such as {{"type": "object"}}')
    return json.dumps(schema, ensure_ascii=False)
