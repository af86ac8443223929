"""The tools of a preference pair reach what is trained on, previewed and sampled from."""

from __future__ import annotations

import json
from pathlib import Path

from chat_tokenizers import byte_level

from autoalign import formats
from autoalign.chat import get_template
from autoalign.cli.data._tokenizer import Encoder
from autoalign.records import Message, PreferencePair
from autoalign.training.prepare import _rows_of

TOOLS = ({"type": "function", "function": {"name": "add"}},)
PAIR = PreferencePair(
    "p", (Message("user", "2 + 3?"),), (Message("assistant", "5"),), (Message("assistant", "6"),), tools=TOOLS
)


def test_both_rows_of_a_pair_are_trained_on_with_its_tools() -> None:
    chosen, rejected = _rows_of(PAIR)
    assert (chosen.id, chosen.tools, rejected.id, rejected.tools) == ("p:chosen", TOOLS, "p:rejected", TOOLS)


def test_both_sides_are_previewed_with_the_tools() -> None:
    tokenizer = byte_level(adds_bos=False)
    sides = Encoder(tokenizer, get_template("qwen2.5")).sides(PAIR)
    texts = [tokenizer.decode(side.input_ids) for side in sides.values()]
    assert all(f"<tools>\n{json.dumps(TOOLS[0])}\n</tools>" in text for text in texts)
    assert [text.endswith(f"{answer}<|im_end|>\n") for text, answer in zip(texts, "56", strict=True)] == [
        True
    ] * 2


def test_a_pairs_prompt_is_asked_with_its_tools(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "2 + 3?", "chosen": "5", "rejected": "6", "tools": TOOLS}))
    (prompt,) = formats.load(path, purpose="prompts").conversations
    assert prompt.tools == TOOLS and prompt.messages == PAIR.prompt
