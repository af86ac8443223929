"""A LoRA adapter and a model of vectors to serve, and what PEFT and transformers make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny import save_tiny_model

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def save_adapter(base: Path, folder: Path) -> None:
    """A LoRA adapter with weights strong enough to change what `base` says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    model.save_pretrained(folder)


def peft_answer(base: Path, adapter: Path, tokens: int) -> list[int]:
    """The token ids of the greedy answer to `QUESTION`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, adapter).eval()
    ids = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    # Token by token: `generate` would keep the end token from being said, which the engine only goes past.
    with torch.no_grad():
        for _ in range(tokens):
            following = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat((ids, following), 1)
    return [int(token) for token in ids[0, -tokens:]]


def save_vector_model(folder: Path) -> None:
    """A tiny Llama that says by sentence-transformers' files: the last token's state, to length 1."""
    save_tiny_model(folder, hidden=128)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 128, "pooling_mode_lasttoken": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def last_states(folder: Path, texts: list[str]) -> list[list[float]]:
    """What the files ask for, from transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in texts:
        with torch.no_grad():
            state = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1]
        found.append(torch.nn.functional.normalize(state, dim=0).tolist())
    return found
