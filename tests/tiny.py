"""A two-layer random Llama with the byte-level test tokenizer: small enough to train in a unit of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.chat_tokenizers import byte_level


def save_tiny_model(folder: Path, *, seed: int = 0, tie: bool = True, hidden: int = 32) -> Path:
    """Write the model and its tokenizer to `folder`, in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level(adds_bos=False)
    tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tie,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_conversations(path: Path, count: int = 24) -> Path:
    """Short question-and-answer rows of different lengths, as OpenAI messages."""
    rows: list[dict[str, Any]] = []
    for index in range(count):
        question, answer = (
            f"What is {index} plus {index}?",
            f"It is {2 * index}. " + "So it is. " * (index % 5),
        )
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer.strip()},
                ]
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tiny_job(model: Path, data: Path, folder: Path, **values: Any) -> dict[str, Any]:
    """Keys of a short local job in float32, with a learning rate that shows; outputs go below `folder`."""
    return {
        "model_name_or_path": str(model),
        "data_path": [str(data)],
        "output_dir": str(folder / "out"),
        "cache_dir": str(folder / "cache"),
        "conv_template_name": "chatml",
        "bf16": False,
        "launcher": "local",
        "max_steps": 4,
        "learning_rate": 1e-3,
        "save_steps": 2,
        **values,
    }
