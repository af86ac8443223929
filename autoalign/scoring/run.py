"""A scoring job from its config to its file."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign import model_folder
from autoalign.config.score import ScoreConfig
from autoalign.errors import ConfigError, JobFailed
from autoalign.sampling.output import refuse_existing, write_answers
from autoalign.scoring import rows
from autoalign.scoring.progress import ScoreProgress
from autoalign.scoring.report import ScoreReport
from autoalign.scoring.rows import ScoredRow


def run(config: ScoreConfig) -> ScoreReport:
    """Score every row of `config.data_path`, and write them with their rewards.

    Raises:
        InputError: something the user gave is wrong; nothing was written.
        JobFailed: the model gives rewards that are no numbers.
    """
    began = time.monotonic()
    output = Path(config.output_file).expanduser()
    refuse_existing(output, config.overwrite)
    folder = model_folder.find(config.model_path, fetch=True)
    scored = rows.read(config.data_path, config.format)

    from autoalign.scoring.model import RewardScorer

    scorer = RewardScorer(config, folder)
    encoded = scorer.encode([answer for row in scored for answer in row.answers])
    with ScoreProgress(len(encoded.ids)) as progress:
        flat = scorer.score(encoded.ids, config.batch_size, progress.advance)
    _require_numbers(flat, config.model_path)
    rewards = list(_by_row(scored, flat))
    _write(output, scored, rewards)
    return ScoreReport(rewards, encoded.truncated, time.monotonic() - began, output)


def _by_row(scored: Sequence[ScoredRow], rewards: Sequence[float]) -> Iterator[list[float]]:
    """The rewards of each row, in the rows' order."""
    left = iter(rewards)
    for row in scored:
        yield [next(left) for _ in row.answers]


def _require_numbers(rewards: Sequence[float], model: str) -> None:
    wrong = sum(not math.isfinite(reward) for reward in rewards)
    if wrong:
        raise JobFailed(
            f"{model}: {wrong} of {len(rewards)} rewards are no numbers; nothing is written. The model's "
            "training diverged, or --dtype float32 is needed"
        )


def _write(output: Path, scored: Sequence[ScoredRow], rewards: Sequence[Sequence[float]]) -> None:
    lines = (
        json.dumps(row.with_rewards(given), ensure_ascii=False, default=str).encode() + b"\n"
        for row, given in zip(scored, rewards, strict=True)
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_answers(output, lines, "jsonl", one_each=True)
    except OSError as error:
        raise ConfigError(f"output_file {output} can't be written: {error.strerror}") from None
