"""How likely answers are under a model, and how much likelier than others to the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

_LONGEST = 1024  # tokens of a question with its answer

Asked = tuple[str, str]
"""A question and an answer to it."""


class Margin(NamedTuple):
    """`margin`: log-likelihood of chosen less rejected, nats an answer; `chosen`: nats a token."""

    margin: float
    chosen: float


class Likelihood(NamedTuple):
    """Log-likelihood of an answer and its end token, in nats, and how many tokens they are."""

    nats: float
    tokens: int


def measure(model: Path, chosen: Sequence[Asked], rejected: Sequence[Asked]) -> Margin:
    """Means over the pairs, in the model's own chat template."""
    return margin_of(likelihoods(model, chosen), likelihoods(model, rejected))


def margin_of(chosen: Sequence[Likelihood], rejected: Sequence[Likelihood]) -> Margin:
    """Means over pairs in the same order."""
    pairs = zip(chosen, rejected, strict=True)
    return Margin(
        fmean(better.nats - worse.nats for better, worse in pairs),
        fmean(each.nats / each.tokens for each in chosen),
    )


def likelihoods(folder: Path, asked: Sequence[Asked]) -> list[Likelihood]:
    """Of each answer to its question, one after the other, so that nothing is padded."""
    import torch
    from transformers import AutoModelForCausalLM

    from autoalign import chat, model_folder
    from autoalign.records import Message

    tokenizer = model_folder.load_tokenizer(folder)
    template = chat.get_template(None, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    found = []
    with torch.inference_mode():
        for question, answer in asked:
            turns = (Message("user", question), Message("assistant", answer))
            encoded = chat.encode(turns, tokenizer, template, _LONGEST)
            labels = torch.tensor(encoded.labels[1:])
            logits = model(torch.tensor([list(encoded.input_ids[:-1])])).logits[0].float()
            learned = labels >= 0
            logps = logits.log_softmax(-1)[learned].gather(1, labels[learned, None])
            found.append(Likelihood(float(logps.sum()), int(learned.sum())))
    return found
