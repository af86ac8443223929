"""How an assistant turn ends: stop tokens for generation, and the check that training teaches them."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Any

from autoalign.chat.comparing import PROBE, PROBE_MESSAGES
from autoalign.chat.encoding import IGNORED, Encoded, encode, encode_prompt
from autoalign.chat.rendering import Messages, render
from autoalign.chat.template import Template
from autoalign.errors import TemplateError


def stop_strings(template: Template, tokenizer: Any = None) -> list[str]:
    """The text that ends an assistant turn, such as `["<|im_end|>"]`; empty where the template writes none.

    Args:
        tokenizer: gives `{{ eos_token }}` its text; templates that write their
            own marker do without it.
    """
    marker = _marker(template, _eos_token(tokenizer))
    return [marker] if marker else []


def stop_token_ids(template: Template, tokenizer: Any) -> list[int]:
    """The token ids that end an assistant turn, for `generation_config.eos_token_id` and stop lists.

    Where this tokenizer has no single token for the marker, the tokenizer's own
    end token is all there is; pass `stop_strings` to the engine as well then.
    """
    for text in stop_strings(template, tokenizer):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return [int(ids[0])]
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]


def check_mask(encoded: Encoded, tokenizer: Any, template: Template) -> None:
    """Stop a job before it starts when its labels would teach nothing, or no end.

    Raises:
        TemplateError: no token is trained on, or an answer's end token is not
            (unless it was cut off by the length limit).
    """
    runs = _trained_runs(encoded)
    if not runs:
        raise TemplateError(_why_empty(encoded, template))
    marker = _marker(template, _eos_token(tokenizer))
    if not marker:
        raise TemplateError(
            f"chat template '{template.name}' writes no end token after a trained answer, so the "
            "model would not learn to stop; put one between the generation marks, or give the tokenizer the "
            "eos_token if the template asks for one"
        )
    for end, ids in runs:
        cut_off = encoded.truncated and end == len(encoded.labels)
        if not cut_off and not _ends_with(marker, ids, tokenizer):
            raise TemplateError(
                f"chat template '{template.name}': an answer is trained on without its end token {marker!r}; "
                f"the trained text ends in {tokenizer.decode(ids[-8:])!r}"
            )


def prompt_agrees(messages: Messages, tokenizer: Any, template: Template) -> bool:
    """Whether training shows the model, token for token, the prompts that serving will.

    It need not: DeepSeek-V3's template opens a think block in prompts alone, and a
    tokenizer may join the prompt's last line break with what follows. The model
    then answers to prompts that it has not quite seen; worth a warning.

    Args:
        messages: a conversation that ends with an assistant turn.
    """
    prompt = encode_prompt(messages[:-1], tokenizer, template)
    return encode(messages, tokenizer, template).input_ids[: len(prompt)] == prompt


def _ends_with(marker: str, ids: list[int], tokenizer: Any) -> bool:
    """Whether `ids` read `... marker`; their last token may reach past it, where the marker is plain text."""
    # Decoded, a marker may look different: SentencePiece reads DeepSeek's ▁ as a space.
    marker = str(tokenizer.decode(tokenizer(marker, add_special_tokens=False)["input_ids"])).strip()
    text, last = str(tokenizer.decode(ids)).rstrip(), str(tokenizer.decode(ids[-1:]))
    found = text.rfind(marker)
    return found >= 0 and len(text) - found - len(marker) < max(1, len(last))


def _why_empty(encoded: Encoded, template: Template) -> str:
    if encoded.truncated:
        return (
            f"nothing to train on in the first {len(encoded.labels)} tokens: the prompt alone is as long; "
            "raise --model_max_length or drop such rows"
        )
    return (
        f"nothing to train on: with chat template '{template.name}' no token of an assistant turn is marked. "
        "The conversation needs an assistant turn, and the template {% generation %} marks around it"
    )


def _trained_runs(encoded: Encoded) -> list[tuple[int, list[int]]]:
    """`(end, ids)` of each unbroken run of trained tokens."""
    runs, position = [], 0
    for trained, group in groupby(encoded.labels, key=lambda label: label != IGNORED):
        ids = list(group)
        position += len(ids)
        if trained:
            runs.append((position, ids))
    return runs


def _eos_token(tokenizer: Any) -> str:
    return "" if tokenizer is None else str(tokenizer.eos_token or "")


@lru_cache(maxsize=64)
def _marker(template: Template, eos_token: str) -> str:
    text, spans = render(PROBE_MESSAGES, template, eos_token=eos_token)
    said = text[slice(*spans[-1])] if spans else ""
    return said.rpartition(PROBE)[2].strip()
