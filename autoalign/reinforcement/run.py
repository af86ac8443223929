"""A GRPO job from its config to its files: the training loop, with answers of the policy as its data."""

from __future__ import annotations

from pathlib import Path

from autoalign import chat, model_folder
from autoalign.config.grpo import GRPOConfig
from autoalign.config.train import TrainConfig
from autoalign.reinforcement import prompts, start
from autoalign.reinforcement.objective import GRPOObjective
from autoalign.reinforcement.prompts import PromptTable
from autoalign.reinforcement.rewards import Rewards
from autoalign.training import run as training
from autoalign.training.prepare import DataUsed, make_task
from autoalign.training.reporting import Display
from autoalign.training.task import Tables, TrainReport, TrainTask


def run(config: GRPOConfig) -> TrainReport:
    """Train, and leave a model folder in `config.output_dir`; errors as in `training.run.run`."""
    return training.run(config, prepare)


def prepare(
    config: TrainConfig, model_path: str, bad_rows: Path, display: Display
) -> tuple[TrainTask, Tables]:
    """Read and render the prompts, and see that their answers can be scored; nothing is started.

    Raises:
        InputError: the data, the tokenizer, the template or the rewards are wrong.
    """
    assert isinstance(config, GRPOConfig)
    tokenizer = model_folder.load_tokenizer(model_path, config.trust_remote_code)
    template = chat.get_template(config.conv_template_name, tokenizer)
    renderer = start.renderer(config, model_path, config.conv_template_name)
    table = prompts.read(config, config.data_path, renderer, bad_rows, config.max_train_samples)
    display.note(_describe(table))
    held_out = None
    if config.eval_data_path:
        held_out = prompts.read(config, config.eval_data_path, renderer, bad_rows)
        display.note(f"evaluation: {_describe(held_out)}")
    rewards = Rewards(config)
    try:
        for each in (table, held_out):
            if each is not None:
                rewards.require_references(each.prompts)
    finally:
        rewards.close()
    evaluation = None if held_out is None else held_out.digest_of_files
    data = DataUsed(table.digest_of_files, table.paths, table.counts, evaluation)
    return make_task(config, model_path, template, data, GRPOObjective), Tables(table, held_out)


def _describe(table: PromptTable) -> str:
    parts = [f"{', '.join(table.paths)}: {len(table)} prompts, {table.counts.tokens} tokens"]
    if table.left_out:
        parts.append(f"{table.left_out} left out: no room for an answer behind them")
    if table.bad_rows:
        parts.append(f"{table.bad_rows} bad rows in errors.jsonl")
    return "; ".join(parts)
