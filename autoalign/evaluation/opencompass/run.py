"""OpenCompass's part of an evaluation: looked over before anything starts, run, and read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.evaluation.deployment import Served
from autoalign.evaluation.layout import Layout
from autoalign.evaluation.model_view import word_counter
from autoalign.evaluation.opencompass import config_file, data_digest, process
from autoalign.evaluation.opencompass.datasets import (
    DatasetConfig,
    Subset,
    find_configs,
    look_into,
    require_apart,
    require_chat,
    require_data,
    run_suffix,
)
from autoalign.evaluation.opencompass.environment import Environment, find_environment
from autoalign.evaluation.opencompass.outcome import Collected, Outcome
from autoalign.sampling.setup import has_gpu
from autoalign.scoring.sandbox.run import warn_of_missing

_LONGEST_CONTEXT = 1 << 20
_TOGETHER, _APART = 1000, 1
_SANDBOX_MB = 512  # enough for a look at what holds


@dataclass(frozen=True)
class Plan:
    """What OpenCompass is to run."""

    environment: Environment
    configs: tuple[DatasetConfig, ...]
    subsets: tuple[Subset, ...]
    data_folder: Path

    @classmethod
    def of(cls, config: EvalConfig) -> Plan:
        """Look everything over; nothing is started but the look into the dataset configs.

        Raises:
            InputError: OpenCompass is not there, or a data set is unknown, not on the disk, one that the
                backend can't ask or the sandbox can't score, or two have one name.
        """
        environment = find_environment(config)
        configs = find_configs(config.dataset_names, environment.package)
        folder = config.data_folder.absolute()
        subsets = look_into(configs, environment, folder)
        require_data(subsets, folder)
        require_apart(subsets)
        config_file.require_confined(subsets)
        if config.endpoint is not None or config.backend != "hf":
            require_chat(subsets)
        each_run = [
            replace(subset, abbr=subset.abbr + run_suffix(run), run=run)
            for subset in subsets
            for run in range(config.num_runs)
        ]
        return cls(environment, tuple(configs), tuple(each_run), folder)

    def forget_other_data(
        self, layout: Layout, config: EvalConfig, noted: Mapping[str, str]
    ) -> dict[str, str]:
        """Remove an earlier run's answers to sets whose data has changed, and say so.

        Args:
            noted: what this returned in the earlier run.

        Returns:
            a digest of each set's data, by abbreviation.
        """
        now = data_digest.digests(self.subsets)
        changed = data_digest.changed(self.subsets, noted, now) if config.reuse else []
        if changed:
            outcome = Outcome(_work_folder(layout, reuse=True), config.name)
            outcome.discard(subset.abbr for subset in changed)
            names = ", ".join(dict.fromkeys(subset.name for subset in changed))
            print(
                f"eval: data has changed, which is asked and scored anew: {names}",
                file=sys.stderr,
                flush=True,
            )
        return now


class Run:
    """A plan with the place of its files.

    Args:
        view: the model's folder; None where only an endpoint knows it.
        server: what is asked; None for the hf backend.

    Attributes:
        start_seconds: how long OpenCompass took to start, in all.
    """

    def __init__(
        self, config: EvalConfig, layout: Layout, plan: Plan, view: Path | None, server: Served | None
    ) -> None:
        self._config, self._layout, self._plan = config, layout, plan
        self._view, self._server = view, server
        self.start_seconds = 0.0
        self._work = _work_folder(layout, config.reuse)
        process.require_plain(self._work.absolute(), plan.environment.python)

    @property
    def log(self) -> Path:
        """What OpenCompass says."""
        return self._work / "opencompass.out"

    def is_open(self) -> bool:
        """Whether there is anything left to run."""
        return bool(Outcome(self._work, self._config.name).missing(self._plan.subsets))

    def collect(self) -> Iterator[Collected]:
        """Run what is not done yet, and read all of it.

        Data sets go together first, which loads everything once; where a broken one took others along, those
        have a second run, each in a process of its own. There is none where our server is gone.
        """
        outcome = Outcome(self._work, self._config.name)
        exit_code, gone = 0, None
        runs_programs = any(subset.evaluator in config_file.SANDBOXED for subset in self._plan.subsets)
        if runs_programs and self.is_open():
            warn_of_missing(_SANDBOX_MB)  # what the evaluators say of it stands in a log alone
        for together in (_TOGETHER, _APART):
            if len(outcome.missing(self._plan.subsets)) < (1 if together == _TOGETHER else 2):
                break
            outcome.discard_failed(self._plan.subsets)
            exit_code = self._run(together)
            if gone := self._server.end() if self._server else None:
                break
        yield from Outcome(self._work, self._config.name, exit_code, gone).collect(self._plan.subsets)

    def _run(self, together: int) -> int:
        plan, layout = self._plan, self._layout
        given = self._config
        settings = config_file.Settings(
            given.limit, given.num_runs, given.max_new_tokens, together, drawn=bool(given.temperature)
        )
        text = config_file.render(layout.model_id, plan.configs, plan.subsets, self._model, settings)
        write_text(layout.config_file, text)
        variables = plan.environment.variables(self._data_cache(), plan.data_folder)
        variables["OPENAI_API_KEY"] = os.environ.get(self._config.api_key_env) or "none"
        line = process.command(plan.environment, layout.config_file, self._work.absolute())
        began, since = time.monotonic(), time.time()
        exit_code = process.run(line, self._work.absolute(), variables, plan.subsets, self._config.name)
        busy = Outcome(self._work, self._config.name).busy_seconds(since)
        self.start_seconds += max(0.0, time.monotonic() - began - busy)
        return exit_code

    def _model(self, generates: bool, run: int) -> dict[str, Any]:
        """The model of a run; with the seed of another it would give the same answers again."""
        config = self._config
        if self._server is None:
            return config_file.local_model(
                config.name,
                folder=str(self._view),
                batch_size=config.batch_size,
                temperature=config.temperature or 0.0,
                seed=config.seed + run,
                dtype="auto" if config.dtype == "auto" else f"torch.{config.dtype}",
                num_gpus=config.per_model_gpu if has_gpu() else 0,
                trust_remote_code=config.trust_remote_code,
                generates=generates,
            )
        tokenizer = self._view or word_counter(self._layout.folder.absolute() / "tokenizer")
        return config_file.endpoint_model(
            config.name,
            model=self._server.model,
            url=self._server.url,
            tokenizer=str(tokenizer),
            in_flight=config.batch_size,
            temperature=config.temperature or 0.0,
            seed=config.seed + run,
            context=config.max_model_len or _LONGEST_CONTEXT,
            tries=max(1, config.max_retries),
            timeout=config.timeout,
        )

    def _data_cache(self) -> Path:
        """A folder whose `data` is the data folder: OpenCompass looks for data sets nowhere else."""
        if self._plan.data_folder.name == "data":
            return self._plan.data_folder.parent
        cache = self._layout.folder.absolute() / "opencompass_data"
        cache.mkdir(parents=True, exist_ok=True)
        link = cache / "data"
        link.unlink(missing_ok=True)
        link.symlink_to(self._plan.data_folder)
        return cache


def _work_folder(layout: Layout, reuse: bool) -> Path:
    """`opencompass_log/TIMESTAMP`: a new one, or the latest there is."""
    known = sorted(path for path in layout.opencompass_log.glob("[0-9]*_[0-9]*") if path.is_dir())
    if reuse and known:
        return known[-1]
    return layout.opencompass_log / time.strftime("%Y%m%d_%H%M%S")
