"""`autoalign-cli plan`: memory, steps, tokens and hours of a training job, before it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign.cli.flags import Parser, config_from_args
from autoalign.config.base import read_yaml
from autoalign.config.dpo import DPOConfig
from autoalign.config.sft import SFTConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError

if TYPE_CHECKING:
    from autoalign.training.plan import Plan

_GIB = 2**30
_JOBS: dict[str, type[TrainConfig]] = {"sft": SFTConfig, "dpo": DPOConfig}
_COMMAND_LINE = re.compile(r"#.*\bautoalign-cli (?P<job>\w+)\b")


class Line(NamedTuple):
    """One row of the table."""

    what: str
    value: str
    note: str = ""


def plan(args: Sequence[str]) -> int:
    """Show the plan; refuse a job that cannot fit (exit code 2)."""
    own, rest = _parser().parse_known_args(list(args))
    job = own.job or _job_of(own.config, rest)
    if own.config is not None:
        rest = ["--config", own.config, *rest]
    config = config_from_args(_JOBS[job], rest, "autoalign-cli plan")

    from autoalign.training.plan import make_plan, require_room

    made = make_plan(
        config,
        tokens_per_second=own.tokens_per_second,
        gpu_memory_gib=own.gpu_memory_gib,
        gpu_tflops=own.gpu_tflops,
    )
    _show(job, config, made)
    require_room(made)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="autoalign-cli plan",
        usage="autoalign-cli plan [--config X.yaml] [--job sft|dpo] [--key value ...]",
        description="Memory, steps, tokens and hours of a training job, before it starts.",
        epilog="All keys of `autoalign-cli sft` and `dpo` are taken (see their --help). The job is told "
        "by --job, the file's first line, or keys that dpo alone has.",
    )
    parser.add_argument("--config", "--config_path", "--config-path", metavar="X.yaml", help="the job's file")
    parser.add_argument("--job", choices=sorted(_JOBS), help="sft or dpo")
    parser.add_argument(
        "--tokens_per_second",
        "--tokens-per-second",
        type=_positive,
        metavar="X",
        help="speed over all workers (default: as in OUTPUT_DIR/metrics.jsonl, else an estimate)",
    )
    parser.add_argument(
        "--gpu_memory_gib",
        "--gpu-memory-gib",
        type=_positive,
        metavar="X",
        help="plan for GPUs of this size (default: for this machine's CPU)",
    )
    parser.add_argument(
        "--gpu_tflops",
        "--gpu-tflops",
        type=_positive,
        metavar="X",
        help="what each multiplies at best (bf16, dense: A100 312, H100 989): the time is estimated from it",
    )
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


# argparse names the type in its message.
_positive.__name__ = "positive number"


def _job_of(config: str | None, flags: Sequence[str]) -> str:
    """`sft`, unless the file's first line or a key of dpo's own says otherwise."""
    keys = {flag[2:].split("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")}
    if config is not None:
        keys |= set(read_yaml(config)[0])
        first = Path(config).read_text(encoding="utf-8-sig").partition("\n")[0]
        if (named := _COMMAND_LINE.match(first)) and named["job"] in _JOBS:
            return named["job"]
        if named and named["job"] == "grpo":
            raise ConfigError(f"{config} is for grpo, whose answers are made on the way: plan takes sft, dpo")
    if keys & (set(DPOConfig.model_fields) - set(SFTConfig.model_fields)):
        return "dpo"
    if config is None and not keys:
        raise ConfigError(
            "nothing to plan: give --config X.yaml or a job's keys (see autoalign-cli plan --help)"
        )
    return "sft"


def _show(job: str, config: TrainConfig, made: Plan) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        for line in lines(job, config, made):
            print(f"{line.what:<28} {line.value:>12}  {line.note}".rstrip())
        return
    console.print(_table(lines(job, config, made)))


def _table(rows: Iterator[Line]) -> Any:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*row)
    return table


def lines(job: str, config: TrainConfig, made: Plan) -> Iterator[Line]:
    """The plan as rows: memory, data, steps, time."""
    yield from _memory_lines(made)
    yield from _data_lines(job, made)
    yield from _time_lines(config, made)


def _memory_lines(made: Plan) -> Iterator[Line]:
    memory, largest = made.memory, made.largest
    yield Line("libraries", _gib(memory.libraries), "before the model is there")
    yield Line("weights", _gib(memory.weights))
    if memory.reference:
        yield Line("reference model", _gib(memory.reference), "frozen copy")
    yield Line("gradients", _gib(memory.gradients), "float32, at the update")
    yield Line("optimizer", _gib(memory.optimizer), "both moments, and float32 masters where they are kept")
    yield Line("activations", _gib(memory.activations), f"largest micro-batch: {largest.tokens} tokens")
    yield Line("logits", _gib(memory.logits), f"of {largest.supervised} supervised tokens")
    if memory.buffers:
        yield Line("buffers", _gib(memory.buffers), "DeepSpeed's, to exchange gradients and weights")
    if memory.snapshot:
        yield Line("copy for a checkpoint", _gib(memory.snapshot), "written while training goes on")
    yield Line(
        "peak of a worker", _gib(memory.peak), f"{memory.peak_moment}; not all parts are there at once"
    )
    yield Line("there is", _gib(made.room.bytes), made.room.what)
    if made.workers > 1:
        yield Line("all workers", _gib(made.workers * memory.peak), f"{made.workers} of them")


def _data_lines(job: str, made: Plan) -> Iterator[Line]:
    counts = made.counts
    asides = [f"{counts.supervised_tokens} of its tokens trained on"]
    asides += [f"{counts.truncated} truncated"] if counts.truncated else []
    asides += [f"{counts.dropped} dropped"] if counts.dropped else []
    asides += [f"{made.bad_rows} bad"] if made.bad_rows else []
    yield Line("rows", str(counts.rows), "two a pair" if job == "dpo" else "")
    yield Line("tokens of the data", str(counts.tokens), ", ".join(asides))


def _time_lines(config: TrainConfig, made: Plan) -> Iterator[Line]:
    step_tokens = made.epoch_tokens
    yield Line("steps", str(made.steps), f"{made.steps_per_epoch} an epoch")
    mean = sum(step_tokens) / len(step_tokens)
    yield Line("tokens a step", f"{mean:.0f}", f"mean; {max(step_tokens)} at most")
    yield Line("tokens to train on", str(made.tokens), "padding apart")
    if made.seconds is None:
        note = (
            "give --gpu_tflops X or --tokens_per_second X, or the output_dir of an earlier run "
            f"({config.output_dir} has none)"
        )
        yield Line("time", "unknown", note)
        return
    note = f"at {made.tokens_per_second:.0f} tokens/s, {made.speed_from}"
    yield Line("time", _duration(made.seconds), note)


def _gib(count: int) -> str:
    return f"{count / _GIB:.2f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 6:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
