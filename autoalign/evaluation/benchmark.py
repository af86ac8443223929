"""Benchmarks of our own, found by a name, NAME=FILE, or as a YAML or Python file.

A named one is a file in `autoalign/evaluation/benchmarks/`:

    FILE = "gsm8k/test.jsonl"                # below data_root
    MAX_NEW_TOKENS = 512                     # of one answer
    NEEDS = ()                               # of "judge", "reward_model"
    GENERATES = True                         # False: the model is not asked, only `score` is called

    def read(path: Path) -> Iterator[Ask]
    def score(answered: Sequence[Answered], tools: Tools) -> Scored

A Python file of one's own has the same; one without FILE lies beside its data, or needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import ModuleType

from autoalign import chat, model_folder, plugins
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, DataError
from autoalign.evaluation import judged_by, own_code, own_file, refusals, verdicts
from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.tools import Tools
from autoalign.sampling.engines.base import SamplingParams, require_support

PACKAGE = "autoalign.evaluation.benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that is ready to be asked.

    Attributes:
        path: its data.
        source: the content of the file that describes it, YAML or Python.
        max_new_tokens: of one answer.
        needs: what else the job must have: `judge`, `reward_model`.
        generates: whether the model is asked at all.
        code: a Python file of the user's, whose faults are the benchmark's alone.
        judged: a hash of how the job tells right from wrong: its judges, guards and reward model.
    """

    name: str
    path: Path
    read: Callable[[Path], Iterable[Ask]]
    score: Callable[[Sequence[Answered], Tools], Scored]
    source: bytes
    max_new_tokens: int = 512
    needs: tuple[str, ...] = ()
    generates: bool = True
    asks: tuple[Ask, ...] = ()
    code: Path | None = None
    judged: str = ""


def load_all(config: EvalConfig) -> list[Benchmark]:
    """The job's own benchmarks, read and cut to `limit`.

    Raises:
        InputError: one is unknown, its data is not on the disk or not as expected, it needs a judge, or
            a prompt or template of judges or a scorer's options are wrong.
    """
    _require_prompts(config)
    if config.judge_guided and config.judge_model:
        backend = "openai" if config.judge_base_url is not None else config.judge_backend
        require_support(backend, SamplingParams(json_schema="{}"))
    found = [_load(given, config) for given in config.benchmark_names]
    names = [each.name for each in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"'benchmarks': two are named {', '.join(sorted(twice))}")
    lost = [each for each in found if not each.path.exists()]
    if lost:
        lines = "\n".join(f"  {each.name}: {each.path}" for each in lost)
        raise DataError(
            f"data sets that are not on the disk (nothing was started):\n{lines}\nput them there, or give "
            f"--data_root (now {config.data_folder}) or --benchmarks NAME=FILE"
        )
    judged = judged_by.digest(config)
    ready = [_read(replace(each, judged=judged), config) for each in found]
    _require_models(ready, config)
    return ready


def _require_prompts(config: EvalConfig) -> None:
    """Raises InputError for prompts and templates that can't be filled in: before the answers, not after."""
    verdicts.require_prompt(config)
    refusals.require_prompt(config)
    if config.judge_template is not None:
        chat.get_template(config.judge_template)


def _require_models(benchmarks: Sequence[Benchmark], config: EvalConfig) -> None:
    """Raises ModelError for a judge or a reward model that is not there: before the answers, not after."""
    needed = {need for each in benchmarks for need in each.needs}
    folders: list[str] = []
    if config.judge_base_url is None and config.judge_backend != "openai":
        folders += config.judge_model if "judge" in needed or config.safety_by != "rule" else []
    if "reward_model" in needed and config.reward_model:
        folders.append(config.reward_model)
    for folder in folders:
        model_folder.find(folder, fetch=True)


def _load(given: str, config: EvalConfig) -> Benchmark:
    name, _, file = given.partition("=")
    if not file and given.endswith((".yaml", ".yml")):
        own = own_file.load(Path(given).expanduser())
        source = own.path.read_bytes()
        return Benchmark(own.name, own.data, own.read, own.score, source, own.max_new_tokens)
    if not file and given.endswith(".py"):
        path = Path(given).expanduser()
        return replace(_of_module(path.stem, own_code.load(path), config, None), code=path)
    module = plugins.load(PACKAGE, name)
    return _of_module(name, module, config, file or _configured(name, config))


def _of_module(name: str, module: ModuleType, config: EvalConfig, file: str | None) -> Benchmark:
    default, source = getattr(module, "FILE", None), Path(str(module.__file__))
    beside = config.data_folder / default if default else source
    path = Path(file).expanduser() if file else beside
    return Benchmark(
        name,
        path,
        module.read,
        module.score,
        source.read_bytes(),
        getattr(module, "MAX_NEW_TOKENS", Benchmark.max_new_tokens),
        tuple(getattr(module, "NEEDS", ())),
        getattr(module, "GENERATES", True),
    )


def _configured(name: str, config: EvalConfig) -> str | None:
    """Keys that name a benchmark's data."""
    keys = {"mt_bench": config.mt_path, "alpaca_eval": config.alpaca_path, "arena_hard": config.arena_path}
    return keys.get(name)


def _read(benchmark: Benchmark, config: EvalConfig) -> Benchmark:
    needed = {"judge": config.judge_model, "reward_model": config.reward_model}
    for need in benchmark.needs:
        if need not in needed:
            known = ", ".join(needed)
            raise ConfigError(f"benchmark {benchmark.name}: NEEDS names '{need}'; there are {known}")
        if not needed[need]:
            raise ConfigError(
                f"benchmark {benchmark.name} needs --{'judge_model' if need == 'judge' else need}"
            )
    with own_code.told(benchmark.code, ConfigError) if benchmark.code else nullcontext():
        asks = tuple(map(own_code.ask_of, islice(benchmark.read(benchmark.path), config.limit)))
    if not asks:
        raise DataError("no questions in it", str(benchmark.path))
    if len({ask.id for ask in asks}) < len(asks):
        raise DataError("two questions have the same id", str(benchmark.path))
    longest = config.max_new_tokens or benchmark.max_new_tokens
    return replace(benchmark, asks=asks, max_new_tokens=longest)
