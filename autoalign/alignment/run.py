"""An alignment job from its config to its promoted model: what every entry point calls."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoalign import model_folder
from autoalign.alignment import local, prompts
from autoalign.alignment.dry_run import require_inputs
from autoalign.alignment.loop import Loop
from autoalign.alignment.machinery import Machinery
from autoalign.alignment.prompts import PromptSets
from autoalign.alignment.report import AlignReport, write_files
from autoalign.alignment.stages import FOLDER, StageStore
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError, StoppedEarly
from autoalign.judging.prompts import JudgePrompt
from autoalign.sampling.engines.base import SamplingParams, require_support


def run(config: AlignConfig) -> AlignReport:
    """Run the rounds, or go on where an earlier run of the same config stopped.

    Raises:
        InputError: something the user gave is wrong; nothing was started.
        JobFailed: a stage failed; those before it are kept.
        StoppedEarly: Ctrl-C or SIGTERM; the same command goes on.
    """
    loop = prepare(config, _note)
    with _claimed(loop.ledger.folder):
        try:
            ledger = loop.run()
        except KeyboardInterrupt:
            raise StoppedEarly(
                f"stopped: finished stages are in {config.output_dir}; the same command goes on from there"
            ) from None
        return write_files(AlignReport.of(ledger, StageStore(loop.ledger.folder / FOLDER)))


def prepare(config: AlignConfig, note: Callable[[str], None] = lambda line: None) -> Loop:
    """A loop that is ready to run; the models and prompts are checked."""
    _require_guidance(config)
    JudgePrompt(config.held_out_judge_prompt, "held_out_judge_prompt")
    sets = prompts.read(config)
    require_inputs(config, sets, note)
    first = str(model_folder.find(config.model_name_or_path, fetch=True).resolve())
    machinery = local.machinery(config)
    _require_metric(config, sets, machinery)
    root = Path(config.output_dir).expanduser().resolve() / FOLDER
    return Loop(config, sets, machinery, StageStore(root, note), first)


def _require_metric(config: AlignConfig, sets: PromptSets, machinery: Machinery) -> None:
    """Raises ConfigError where no held-out answer could be checked: now, not after the training."""
    verify = machinery.verify
    if config.metric == "verifier" and verify and all(verify(each, "1") is None for each in sets.held_out):
        raise ConfigError(
            f"'verifier': {config.verifier} can't check any of the {len(sets.held_out)} held-out prompts: "
            "they hold no reference that it takes; set metric: judge, or another verifier"
        )


def _require_guidance(config: AlignConfig) -> None:
    """Raises ConfigError where a judge's engine can't hold it to a schema."""
    if not config.judge_guided:
        return
    roles = {config.metric_judge} if config.metric == "judge" else set()
    roles |= {"held_out_judge"} & config.models.keys()
    for number in range(1, config.rounds + 1):
        roles |= set(config.built(number).judges)
    for role in sorted(roles):
        engine = config.engine_config(config.model_name_or_path, role)
        try:
            require_support(engine.backend, SamplingParams(json_schema="{}"))
        except ConfigError as error:
            raise ConfigError(f"'judge_guided', role {role}: {error}") from None


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """One job at a time in a folder.

    Raises:
        ConfigError: another one is at work there, or it can't be written.
    """
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"output_dir {folder} can't be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another align job is at work in it") from None
        yield


def _note(line: str) -> None:
    print(f"align: {line}", file=sys.stderr, flush=True)
