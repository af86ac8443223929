"""Where an evaluation's files lie, and what to do about those that are there already."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError

CONTAMINATION = "contamination.json"


@dataclass(frozen=True)
class Layout:
    """The files of one evaluation.

    Attributes:
        folder: OUTPUT_DIR/MODEL_ID.
        config_file: CONFIG_DIR/MODEL_ID.py, for OpenCompass.
    """

    model_id: str
    folder: Path
    config_file: Path

    @property
    def csv(self) -> Path:
        """The table, for programs."""
        return self.folder / "ordered_res.csv"

    @property
    def text(self) -> Path:
        """The table, for eyes."""
        return self.folder / "ordered_res.txt"

    @property
    def opencompass_log(self) -> Path:
        """OpenCompass's own files, a folder a run."""
        return self.folder / "opencompass_log"

    @property
    def results(self) -> Path:
        """All figures, as JSON."""
        return self.folder / "results.json"

    @property
    def keys(self) -> Path:
        """The config, and a digest of the model."""
        return self.folder / "eval.json"

    @property
    def picture(self) -> Path:
        """The table, drawn."""
        return self.folder / "results.png"

    @property
    def contamination(self) -> Path:
        """Questions that were found in the training data."""
        return self.folder / CONTAMINATION

    @property
    def questions(self) -> Path:
        """Each benchmark's questions with answers and scores: NAME.jsonl."""
        return self.folder / "questions"

    @property
    def answers(self) -> Path:
        """What our own benchmarks' models said, as it came: NAME.jsonl."""
        return self.folder / "answers"

    @property
    def verdicts(self) -> Path:
        """What judges said, as it came: NAME.jsonl."""
        return self.folder / "verdicts"

    def existing(self) -> list[Path]:
        """Files and folders of an earlier evaluation."""
        paths = (self.config_file, self.csv, self.text, self.opencompass_log, self.answers, self.results)
        return [path for path in paths if path.exists()]


def layout_of(config: EvalConfig) -> Layout:
    """The place of this evaluation; with `reuse` that of `model_id`, or of the model's latest.

    Raises:
        ConfigError: there is nothing to go on with.
    """
    outputs = Path(config.output_dir).expanduser()
    model_id = config.model_id
    if model_id is None and config.reuse:
        latest = latest_of(outputs, config.name)
        if latest is None:
            raise ConfigError(
                f"--reuse: no evaluation of {config.name} is in {outputs}; leave --reuse out, or name its "
                "folder with --model_id"
            )
        model_id = latest.name
    model_id = model_id or f"{config.name}_{time.strftime('%Y%m%d_%H%M%S')}"
    return Layout(model_id, outputs / model_id, Path(config.config_dir).expanduser() / f"{model_id}.py")


def latest_of(outputs: Path, name: str) -> Path | None:
    """The folder of the model's latest evaluation, by the time in its name."""
    pattern = name.replace("[", "[[]") + "_" + "[0-9]" * 8 + "_" + "[0-9]" * 6
    found = sorted(path for path in outputs.glob(pattern) if path.is_dir())
    return found[-1] if found else None


def settle(layout: Layout, config: EvalConfig, ask: Callable[[str], str] | None = None) -> None:
    """Make room: `force` removes what is there, `reuse` keeps it; else the user is asked on a terminal.

    Raises:
        ConfigError: something is there, and nobody said what to do.
    """
    there = layout.existing()
    if there and not config.reuse:
        names = ", ".join(str(path) for path in there)
        if not config.force:
            _ask_or_refuse(names, ask or (input if sys.stdin and sys.stdin.isatty() else None))
        for path in there:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in (layout.questions, layout.verdicts):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (layout.keys, layout.picture, layout.contamination):
            file.unlink(missing_ok=True)
    layout.folder.mkdir(parents=True, exist_ok=True)


def _ask_or_refuse(names: str, ask: Callable[[str], str] | None) -> None:
    if ask is None:
        raise ConfigError(f"there already: {names}; give --force to overwrite them, or --reuse to go on")
    try:
        said = ask(f"There already: {names}.\nContinue, and overwrite them? [y/N] ")
    except EOFError:
        said = ""
    if said.strip().lower() not in ("y", "yes", "c", "continue"):
        raise ConfigError("nothing was changed; --reuse goes on with what is there, --force overwrites it")
