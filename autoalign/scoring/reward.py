"""A reward model that is only asked: conversations to numbers, in batches without padding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoalign import chat, model_folder
from autoalign.config.rm import RMConfig
from autoalign.config.score import ScoreConfig
from autoalign.errors import ConfigError, ModelError, TemplateError
from autoalign.records import Conversation
from autoalign.training.batches import collate
from autoalign.training.examples import Layout
from autoalign.training.model import REWARD, is_padding_free, load_model
from autoalign.training.reward_model import row_rewards
from autoalign.training.tokens import TokenRow

_ENCODED_AT_ONCE = 512


class RewardModel:
    """A loaded reward model with its tokenizer and chat template."""

    def __init__(self, config: ScoreConfig, folder: Path) -> None:
        """Load the model.

        Raises:
            ModelError: it is no reward model, or can't be loaded.
            ConfigError: a GPU is asked for and there is none.
        """
        require_reward_model(folder)
        self._device = _device(config)
        settings = _as_in_training(config, on_gpu=self._device.type == "cuda")
        self._tokenizer = model_folder.load_tokenizer(folder, config.trust_remote_code)
        self._template = chat.get_template(config.template, self._tokenizer)
        self._max_length = config.max_length or model_folder.context_length(folder)
        self._layout = Layout(is_padding_free(settings, str(folder)), self._tokenizer.pad_token_id or 0)
        self._model: Any = load_model(settings, str(folder), kind=REWARD).eval().to(self._device)
        # In bfloat16 near rewards would fall together: the head alone costs nothing in float32.
        getattr(self._model, str(REWARD.head)).float()

    def encode(self, answers: Sequence[Conversation]) -> list[chat.Encoded | TemplateError]:
        """Conversations as training renders them; in the place of one that the template refuses, why."""
        parts = range(0, len(answers), _ENCODED_AT_ONCE)
        return [row for start in parts for row in self._encoded(answers[start : start + _ENCODED_AT_ONCE])]

    @torch.inference_mode()
    def score(self, ids: Sequence[list[int]], batch_size: int) -> list[float]:
        """The reward of each row of token ids, in order.

        Args:
            batch_size: rows at once; those of similar length go together, the longest first, so that
                memory that does not suffice shows at once.
        """
        rewards = [0.0] * len(ids)
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            for index, reward in zip(part, self._rewards([ids[index] for index in part]), strict=True):
                rewards[index] = reward
        return rewards

    def _rewards(self, rows: Sequence[list[int]]) -> list[float]:
        tokens = [TokenRow(np.asarray(row, np.int32), np.zeros(len(row), bool)) for row in rows]
        rewards: list[float] = row_rewards(
            self._model, collate(tokens, *self._layout).to(self._device)
        ).tolist()
        return rewards

    def _encoded(self, answers: Sequence[Conversation]) -> list[chat.Encoded | TemplateError]:
        messages, tools = [row.messages for row in answers], [row.tools or None for row in answers]
        try:
            found = chat.encode_batch(
                messages, self._tokenizer, self._template, self._max_length, tools=tools
            )
            return list(found)
        except TemplateError:
            return [self._encoded_alone(row) for row in answers]

    def _encoded_alone(self, row: Conversation) -> chat.Encoded | TemplateError:
        try:
            return chat.encode(
                row.messages, self._tokenizer, self._template, self._max_length, tools=row.tools or None
            )
        except TemplateError as error:
            return TemplateError(f"template '{self._template.name}' refuses the row: {error}")


def require_reward_model(folder: Path) -> None:
    """Raises ModelError unless the folder holds a sequence classifier of one output."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = ", ".join(config.get("architectures") or ["unknown"])
    if "ForSequenceClassification" not in names:
        raise ModelError(
            f"{folder}: no reward model (its architecture is {names}); train one with `autoalign-cli rm`"
        )
    outputs = len(config.get("id2label") or (0, 1))
    if outputs != 1:
        raise ModelError(f"{folder}: a classifier of {outputs} classes; a reward model gives one number")


def _device(config: ScoreConfig) -> torch.device:
    has_gpu = torch.cuda.is_available()
    if config.use_gpu and not has_gpu:
        raise ConfigError("'use_gpu' is true, but PyTorch finds no GPU here; leave it out to use the CPU")
    return torch.device("cuda" if has_gpu and config.use_gpu is not False else "cpu")


def _as_in_training(config: ScoreConfig, on_gpu: bool) -> RMConfig:
    """The training keys that say how a model is loaded and its rows are laid out."""
    return RMConfig(
        model_name_or_path=str(config.model_path),
        data_path=config.data_path,
        output_dir=str(Path(config.output_file).parent),
        bf16=on_gpu if config.dtype == "auto" else config.dtype == "bfloat16",
        attn_implementation=config.attn_implementation,
        trust_remote_code=config.trust_remote_code,
    )
