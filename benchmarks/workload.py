"""The rows of every step: our loop's own order decides, and TRL gets the same token ids in the same steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from autoalign.config.dpo import DPOConfig
from autoalign.config.sft import SFTConfig
from autoalign.config.train import TrainConfig
from autoalign.training.examples import Pairs, Rows
from autoalign.training.order import data_order
from autoalign.training.prepare import prepare
from autoalign.training.reporting import Display
from autoalign.training.task import Tables, TrainTask
from benchmarks.plan import Settings

Row = dict[str, Any]
_POOL = 400
"""Rows of a data file that the warm-up's are chosen from."""


class Prepared(NamedTuple):
    """A job of ours, ready for the loop."""

    task: TrainTask
    tables: Tables


def config_of(settings: Settings, kind: str, output_dir: Path, cache_dir: Path | None = None) -> TrainConfig:
    """Our side's config: bf16, this process, the rows of a step as one micro-batch."""
    folder = Path(settings.folder)
    shared = {
        "model_name_or_path": settings.model,
        "data_path": [str(folder / f"{kind}.jsonl")],
        "output_dir": str(output_dir),
        "cache_dir": str(cache_dir or folder / "cache"),
        "max_steps": settings.total_steps,
        "per_device_train_batch_size": settings.examples(kind),
        "group_by_length": False,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0.0,
        "save_steps": None,
        "launcher": "local",
        "cpus_per_worker": settings.threads,
    }
    if kind == "sft":
        return SFTConfig(**{**shared, "model_max_length": settings.max_length, **settings.sft_config})
    return DPOConfig(**{**shared, "model_max_length": settings.pair_length, **settings.dpo_config})


def prepared(config: TrainConfig, settings: Settings) -> Prepared:
    """Tokenise (or find the tokens in the cache), as a training job does."""
    Path(config.output_dir).mkdir(parents=True, exist_ok=True)
    display = Display(config.job, quiet=True)
    return Prepared(*prepare(config, settings.model, Path(settings.folder) / "bad_rows.jsonl", display))


def write(settings: Settings, kinds: Sequence[str]) -> None:
    """Write each kind's data file in our order, and `KIND.json` with the ids of every step."""
    folder = Path(settings.folder)
    for kind in kinds:
        _write_data(settings, kind)
        config = config_of(settings, kind, folder / "prepare")
        job = prepared(config, settings)
        steps = steps_of(config, job.tables, kind)
        if any(len(step) != settings.examples(kind) for step in steps) or job.tables.train.counts.dropped:
            raise SystemExit(f"{kind}: rows were dropped; the steps are not those that were meant")
        (folder / f"{kind}.json").write_text(json.dumps(steps), encoding="utf-8")


def read(settings: Settings, kind: str) -> list[list[Row]]:
    """The rows of each step, the warm-up's first."""
    steps: list[list[Row]] = json.loads((Path(settings.folder) / f"{kind}.json").read_text(encoding="utf-8"))
    return steps


def amounts(steps: Sequence[Sequence[Row]], kind: str) -> list[int]:
    """Tokens of each step for `sft`, pairs for `dpo`."""
    return [sum(len(row["input_ids"]) for row in step) if kind == "sft" else len(step) for step in steps]


def supervised(steps: Sequence[Sequence[Row]]) -> int:
    """Tokens of the measured `sft` steps that the loss covers."""
    return sum(label != -100 for step in steps[1:] for row in step for label in row["labels"][1:])


def pair_tokens(pair: Row) -> int:
    """Tokens of both rows of a pair."""
    return 2 * len(pair["prompt_ids"]) + len(pair["chosen_ids"]) + len(pair["rejected_ids"])


def _write_data(settings: Settings, kind: str) -> None:
    source = Path(settings.sft_data if kind == "sft" else settings.dpo_data)
    size = settings.examples(kind)
    rows = [row for row in _read_rows(source)[:_POOL] if kind == "sft" or _leaves_room(row, settings)]
    measured, rest = rows[: size * settings.steps], rows[size * settings.steps :]
    wanted = sorted(rest, key=lambda row: len(json.dumps(row)))[:size] + measured
    if len(wanted) < size * settings.total_steps:
        raise SystemExit(f"{source}: {len(rows)} rows are too few for {settings.total_steps} steps of {size}")
    config = config_of(settings, kind, Path(settings.folder) / "prepare")
    order = data_order(config, SimpleNamespace(lengths=[1] * len(wanted), shard_sizes=None), 1)
    placed: list[Row] = [{}] * len(wanted)
    for step in range(settings.total_steps):
        places = [row for part in order.step(step) for row in part]
        for place, row in zip(places, wanted[step * size : (step + 1) * size], strict=True):
            placed[place] = row
    text = "".join(json.dumps(row) + "\n" for row in placed)
    (Path(settings.folder) / f"{kind}.jsonl").write_text(text, encoding="utf-8")


def _leaves_room(pair: Row, settings: Settings) -> bool:
    """Whether a pair's prompt takes half of a row at most, at no less than 3 characters a token."""
    return len(json.dumps(pair["conversations"])) <= 3 * settings.pair_length // 2


def _read_rows(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8")
    rows: list[Row] = json.loads(text) if text[:1] == "[" else [json.loads(row) for row in text.splitlines()]
    return rows


def steps_of(config: TrainConfig, tables: Tables, kind: str) -> list[list[Row]]:
    """The token ids of every step, in the order in which our loop takes them."""
    table = tables.train
    order = data_order(config, Rows(table) if kind == "sft" else Pairs(table), 1)
    as_row = _sft_row if kind == "sft" else _pair
    return [
        [as_row(table, index) for part in order.step(step) for index in part]
        for step in range(config.max_steps)
    ]


def _sft_row(table: Any, index: int) -> Row:
    ids, mask = table.row(index)
    return {
        "input_ids": ids.tolist(),
        "labels": [t if s else -100 for t, s in zip(ids.tolist(), mask, strict=True)],
    }


def _pair(table: Any, index: int) -> Row:
    (prompt, chosen), (_, rejected) = (_split(*table.row(2 * index + side)) for side in (0, 1))
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def _split(ids: Any, mask: Any) -> tuple[list[int], list[int]]:
    """Prompt and answer of a row; what a template puts after the answer's end is left out."""
    where = mask.nonzero()[0]
    return ids[: where[0]].tolist(), ids[where[0] : where[-1] + 1].tolist()
