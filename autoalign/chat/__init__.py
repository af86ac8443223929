"""Chat templates, rendering and loss masks: one renderer for training, sampling, serving and evaluation.

    template = get_template("chatml")
    render_text(messages, template, add_generation_prompt=True)   # the prompt, as text
    encode(messages, tokenizer, template, max_length=4096)        # input_ids and labels
    encode_prompt(messages, tokenizer, template)                  # the prompt, as ids

A template is one `.jinja` file in `templates/`, found by its file name.
"""

from autoalign.chat.encoding import IGNORED, Encoded, encode, encode_batch, encode_prompt
from autoalign.chat.ending import check_mask, prompt_agrees, stop_strings, stop_token_ids
from autoalign.chat.opening import Opening, user_opening
from autoalign.chat.preview import preview, preview_plain
from autoalign.chat.rendering import Rendered, render, render_text
from autoalign.chat.template import Template, get_template, install, template_names

__all__ = [
    "IGNORED",
    "Encoded",
    "Opening",
    "Rendered",
    "Template",
    "check_mask",
    "encode",
    "encode_batch",
    "encode_prompt",
    "get_template",
    "install",
    "preview",
    "preview_plain",
    "prompt_agrees",
    "render",
    "render_text",
    "stop_strings",
    "stop_token_ids",
    "template_names",
    "user_opening",
]
