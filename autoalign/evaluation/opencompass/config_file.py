"""`configs/MODEL_ID.py`: what OpenCompass is to run, as a file that it also runs by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pprint import pformat
from typing import Any

from autoalign.errors import ConfigError
from autoalign.evaluation.opencompass.datasets import DatasetConfig, Subset

_EVALUATORS = "autoalign.evaluation.inside_opencompass.evaluators"
_SEEDED = "autoalign.evaluation.inside_opencompass.seeded_model.SeededChat"
# OpenCompass's own ones run a model's programs without a sandbox.
SANDBOXED = {
    "HumanEvalEvaluator": f"{_EVALUATORS}.SandboxedHumanEval",
    "MBPPEvaluator": f"{_EVALUATORS}.SandboxedMBPP",
    "MBPPPassKEvaluator": f"{_EVALUATORS}.SandboxedMBPPPassK",
}
_METRICS = (None, "MBPP")  # that these count
_ROUND = [
    {"role": "HUMAN", "api_role": "HUMAN"},
    {"role": "BOT", "api_role": "BOT", "generate": True},
]
_RESERVED = [{"role": "SYSTEM", "api_role": "SYSTEM"}]


@dataclass(frozen=True)
class Settings:
    """What the file holds beside its data sets and models.

    Attributes:
        together: data sets of one process.
        drawn: answers are drawn, so that each run has a model with a seed of its own.
    """

    limit: int | None = None
    num_runs: int = 1
    max_new_tokens: int | None = None
    together: int = 1000
    drawn: bool = False


def require_confined(subsets: Sequence[Subset]) -> None:
    """Raises ConfigError for a metric that OpenCompass's own evaluator counts, and without a sandbox."""
    for subset in subsets:
        if subset.evaluator in SANDBOXED and subset.metric not in _METRICS:
            raise ConfigError(
                f"'datasets': {subset.name}: its metric {subset.metric} can only be counted by running the "
                "model's programs outside the sandbox; leave it out"
            )


def endpoint_model(
    abbr: str,
    *,
    model: str,
    url: str,
    tokenizer: str,
    in_flight: int,
    temperature: float,
    seed: int,
    context: int,
    tries: int,
    timeout: float,
) -> dict[str, Any]:
    """OpenCompass's OpenAI model class; the server renders with its chat template.

    The temperature goes into the extra arguments too, because OpenCompass leaves it out where a model's
    name holds "o1", "o3", "o4" or "gpt-5".
    """
    extra: dict[str, Any] = {"temperature": temperature, "seed": seed}
    return {
        "abbr": abbr,
        "type": "opencompass.models.OpenAISDK",
        "path": model,
        "key": "ENV",
        "openai_api_base": url,
        "tokenizer_path": tokenizer,
        "meta_template": {"round": _ROUND, "reserved_roles": _RESERVED},
        "query_per_second": 1000,
        # Answers are written when the last of a batch is there: a large one keeps the slots busy, and a small
        # one loses less when it is killed.
        "batch_size": 2 * in_flight,
        "max_workers": in_flight,
        "max_out_len": 1024,
        "max_seq_len": context,
        "temperature": temperature,
        "retry": tries,
        "timeout": timeout,
        "openai_extra_kwargs": extra,
    }


def local_model(
    abbr: str,
    *,
    folder: str,
    batch_size: int,
    temperature: float,
    seed: int,
    dtype: str,
    num_gpus: int,
    trust_remote_code: bool,
    generates: bool,
) -> dict[str, Any]:
    """One of OpenCompass's Hugging Face model classes: with the folder's chat template, or without one.

    Where it draws its answers, the same class with a seed.
    """
    kind = f"opencompass.models.{'HuggingFacewithChatTemplate' if generates else 'HuggingFaceBaseModel'}"
    seeded = {"type": _SEEDED, "seed": seed} if generates and temperature else {"type": kind}
    tokenizer: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    return {
        "abbr": abbr,
        **seeded,
        "path": folder,
        "tokenizer_path": folder,
        "tokenizer_kwargs": tokenizer,
        "model_kwargs": {"trust_remote_code": trust_remote_code, "torch_dtype": dtype},
        "generation_kwargs": sampling,
        "batch_size": batch_size,
        "max_out_len": 1024,
        "run_cfg": {"num_gpus": num_gpus},
    }


def render(
    model_id: str,
    configs: Sequence[DatasetConfig],
    subsets: Sequence[Subset],
    model: Callable[[bool, int], dict[str, Any]],
    settings: Settings,
) -> str:
    """The file's text.

    Args:
        model: what answers the sets that ask for text (True) or compare likelihoods (False), in a run.
    """
    imports = "\n".join(f"    from {each.module} import {', '.join(each.variables)}" for each in configs)
    lists = ", ".join(f"*{variable}" for each in configs for variable in each.variables)
    sandboxed = {
        subset.abbr: SANDBOXED[subset.evaluator] for subset in subsets if subset.evaluator in SANDBOXED
    }
    given = {subset.abbr: subset.given_path for subset in subsets if subset.given_path is not None}
    parts: dict[tuple[bool, int], list[str]] = {}
    for subset in subsets:
        kind = subset.asks_for_text, subset.run if settings.drawn and subset.asks_for_text else 0
        parts.setdefault(kind, []).append(subset.abbr)
    used = [model(*kind) for kind in parts]
    text_sets = sorted({subset.abbr for subset in subsets if subset.asks_for_text})
    return f'''"""OpenCompass's config of the evaluation {model_id}, written by `autoalign-cli eval`."""

from mmengine.config import read_base

with read_base():
{imports}

sandboxed = {pformat(sandboxed, width=100)}
text_sets = {pformat(text_sets, width=100, compact=True)}
paths = {pformat(given, width=100)}
datasets = [{lists}]
for dataset in datasets:
{_changes(settings)}
    if dataset["abbr"] in sandboxed:
        dataset["eval_cfg"]["evaluator"]["type"] = sandboxed[dataset["abbr"]]
    if dataset["abbr"] in paths:
        dataset["path"] = paths[dataset["abbr"]]
del dataset
{_runs(settings.num_runs)}
models = {pformat(used, width=100, sort_dicts=False)}
{_combinations(list(parts.values()))}
infer = dict(
    partitioner=dict(type="opencompass.partitioners.NaivePartitioner", n={settings.together}),
    runner=dict(
        type="opencompass.runners.LocalRunner",
        max_num_workers=1,
        task=dict(type="opencompass.tasks.OpenICLInferTask"),
    ),
)
eval = dict(
    partitioner=dict(type="opencompass.partitioners.NaivePartitioner", n={settings.together}),
    runner=dict(
        type="opencompass.runners.LocalRunner",
        max_num_workers=1,
        task=dict(type="opencompass.tasks.OpenICLEvalTask", dump_details=True),
    ),
)
'''


def _changes(settings: Settings) -> str:
    lines = []
    if settings.limit is not None:
        lines.append(f'    dataset["reader_cfg"]["test_range"] = "[:{settings.limit}]"')
    if settings.max_new_tokens is not None:
        lines.append('    if dataset["abbr"] in text_sets:')
        lines.append(f'        dataset["infer_cfg"]["inferencer"]["max_out_len"] = {settings.max_new_tokens}')
    return "\n".join(lines)


def _runs(count: int) -> str:
    """OpenCompass's own repetition cuts to the limit after it has repeated, so runs are sets of their own."""
    if count == 1:
        return ""
    again = 'dict(each, abbr=each["abbr"] + (f"_run{run}" if run else ""))'
    return f"datasets = [{again} for each in datasets for run in range({count})]\n"


def _combinations(parts: Sequence[Sequence[str]]) -> str:
    """Which model is asked what, where there are several.

    Args:
        parts: the data sets of each, by abbreviation.
    """
    if len(parts) < 2:
        return ""
    lines = [
        f"    dict(models=[models[{place}]], datasets=[each for each in datasets "
        f'if each["abbr"] in asked_of[{place}]]),'
        for place in range(len(parts))
    ]
    asked_of = pformat([list(part) for part in parts], width=100, compact=True)
    return f"asked_of = {asked_of}\nmodel_dataset_combinations = [\n" + "\n".join(lines) + "\n]\n"
