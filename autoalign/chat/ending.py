"""How an assistant turn ends: stop tokens for generation, and the check that training teaches them."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import Any

from autoalign.chat.comparing import PROBE, PROBE_MESSAGES
from autoalign.chat.encoding import IGNORED, Encoded, encode, encode_prompt
from autoalign.chat.rendering import Messages, render
from autoalign.chat.template import Template
from autoalign.errors import TemplateError


def stop_strings(template: Template, tokenizer: Any = None) -> list[str]:
    """The texts that end an assistant turn, such as `["<|im_end|>"]`; empty where the template writes none.

    Args:
        tokenizer: gives `{{ eos_token }}` its text; templates that write their
            own marker do without it.
    """
    return list(_markers(template, _eos_token(tokenizer)))


def stop_token_ids(template: Template, tokenizer: Any) -> list[int]:
    """The token ids that end an assistant turn, for `generation_config.eos_token_id` and stop lists.

    Where this tokenizer has no single token for the marker, the tokenizer's own
    end token is all there is; pass `stop_strings` to the engine as well then.
    """
    each = [
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in stop_strings(template, tokenizer)
    ]
    single = [int(ids[0]) for ids in each if len(ids) == 1]
    if single or tokenizer.eos_token_id is None:
        return single
    return [int(tokenizer.eos_token_id)]


def check_mask(encoded: Encoded, tokenizer: Any, template: Template) -> None:
    """Stop a job before it starts when its labels would teach nothing, or no end.

    Raises:
        TemplateError: no token is trained on, or an answer's end token is not
            (unless it was cut off by the length limit).
    """
    runs = _trained_runs(encoded)
    if not runs:
        raise TemplateError(_why_empty(encoded, template))
    markers = _markers(template, _eos_token(tokenizer))
    if not markers:
        raise TemplateError(
            f"chat template '{template.name}' writes no end token after a trained answer, so the "
            "model would not learn to stop; put one between the generation marks, or give the tokenizer the "
            "eos_token if the template asks for one"
        )
    for end, ids in runs:
        cut_off = encoded.truncated and end == len(encoded.labels)
        if not cut_off and not any(_ends_with(marker, ids, tokenizer) for marker in markers):
            raise TemplateError(
                f"chat template '{template.name}': an answer is trained on without its end {markers[0]!r}; "
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
def _markers(template: Template, eos_token: str) -> tuple[str, ...]:
    """The ends of an answer that comes last, and of one that a tool's result follows (GLM-4's differ)."""
    markers = _markers_of(PROBE_MESSAGES, template, eos_token)
    with suppress(TemplateError):
        markers += _markers_of((*PROBE_MESSAGES, {"role": "tool", "content": "r"}), template, eos_token)
    return tuple(dict.fromkeys(markers))


def _markers_of(messages: Messages, template: Template, eos_token: str) -> list[str]:
    """What stands after the probe in its span, and after it (Phi-3 closes the whole conversation)."""
    text, spans = render(messages, template, eos_token=eos_token)
    said = [text[start:end].rpartition(PROBE)[2].strip() for start, end in spans]
    return [marker for marker in said if marker]
