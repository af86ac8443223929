"""Chat templates end to end; a pytest file, and a script that shows how a template tokenises a data file:

    python tests/test_conversation.py test_get_tokenized_conversation \
        --template_name vicuna_v1.1 --tokenizer_name_or_path models/smollm2-135m-instruct \
        --model_max_length 4096 --data_path data/dummy_sft.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autoalign import formats
from autoalign.chat import (
    IGNORED,
    Encoded,
    Template,
    check_mask,
    encode,
    get_template,
    preview,
    preview_plain,
    render,
    render_text,
)
from autoalign.cli.flags import Parser
from autoalign.errors import AutoAlignError, DataError, ModelError, TemplateError
from autoalign.records import Conversation

COMMAND = "test_get_tokenized_conversation"
GOLDEN = json.loads((Path(__file__).parent / "golden" / "chat_prompts.json").read_text(encoding="utf-8"))
BEETHOVEN = {
    "id": "0",
    "conversations": [
        {"from": "system", "value": "You are a helpful artificial assistant who gives friendly responses."},
        {"from": "human", "value": "Tell me about Beethoven."},
        {"from": "gpt", "value": "Beethoven is a great composer."},
    ],
}


def _golden_id(row: dict[str, Any]) -> str:
    ending = "prompt" if row["add_generation_prompt"] else "whole"
    return f"{row['template']}-{row['messages'][0]['role']}-{len(row['messages'])}-{ending}"


@pytest.mark.parametrize("row", GOLDEN, ids=_golden_id)
def test_rendering_equals_the_published_template(row: dict[str, Any]) -> None:
    def rendered() -> str:
        return render_text(
            row["messages"],
            get_template(row["template"]),
            add_generation_prompt=row["add_generation_prompt"],
            bos_token=row["bos_token"],
            eos_token=row["eos_token"],
        )

    if row["error"]:
        with pytest.raises(TemplateError, match=row["error"]):
            rendered()
    else:
        assert rendered() == row["text"]


def test_the_golden_file_is_whole() -> None:
    assert len(GOLDEN) == 64
    assert sum(row["error"] is not None for row in GOLDEN) == 2


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    path = tmp_path / "dummy.json"
    path.write_text(json.dumps([BEETHOVEN]), encoding="utf-8")
    return path


@pytest.fixture
def tokenizer_path() -> Path:
    path = Path(__file__).parents[1] / "models" / "smollm2-135m-instruct"
    if not (path / "tokenizer.json").is_file():
        pytest.skip("no demo model; `autoalign-cli models fetch smollm2-135m-instruct` makes it")
    return path


def test_get_tokenized_conversation(
    data_path: Path, tokenizer_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        f"{COMMAND} --template_name vicuna_v1.1 --tokenizer_name_or_path {tokenizer_path} "
        f"--model_max_length 4096 --data_path {data_path}".split()
    )
    printed = capsys.readouterr().out
    assert code == 0
    # The demo tokenizer's own end token stands for vicuna's </s>.
    assert (
        "You are a helpful artificial assistant who gives friendly responses. "
        "USER: Tell me about Beethoven. ASSISTANT:« Beethoven is a great composer.<|im_end|>»" in printed
    )
    assert "1 conversation" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--template_name": "vicuna"}, "did you mean 'vicuna_v1.1'?"),
        ({"--model_max_length": "many"}, "--model_max_length: invalid int value: 'many'"),
        ({"--model_max_length": "0"}, "--model_max_length is 0; it must be at least 1"),
        ({"--tokenizer_name_or_path": "no/such/folder"}, "no/such/folder"),
        (
            {"--template_name": "gemma"},
            "dummy.json:1: chat template 'gemma' refuses this conversation: System",
        ),
        ({"--data_path": "no-such-file.json"}, "no-such-file.json"),
        ({"--temlate_name": "chatml"}, "unknown flag '--temlate_name' (did you mean '--template_name'?)"),
    ],
)
def test_wrong_arguments_end_with_one_message(
    change: dict[str, str],
    message: str,
    data_path: Path,
    tokenizer_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    flags = {
        "--template_name": "chatml",
        "--tokenizer_name_or_path": str(tokenizer_path),
        "--data_path": str(data_path),
        **change,
    }
    assert main([COMMAND, *(word for pair in flags.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert "Traceback" not in error


def main(args: Sequence[str]) -> int:
    """The script: 0 when every conversation was shown, 2 with one message when an argument is wrong."""
    try:
        _show(args)
    except AutoAlignError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _show(args: Sequence[str]) -> None:
    given = _arguments(args)
    tokenizer = _tokenizer(given.tokenizer_name_or_path)
    template = get_template(given.template_name, tokenizer)
    conversations = formats.load(given.data_path, kind="sft").records
    for conversation in conversations:
        assert isinstance(conversation, Conversation)
        try:
            _show_one(conversation, tokenizer, template, given.model_max_length)
        except TemplateError as error:
            raise DataError(str(error), conversation.source, conversation.line) from error
    plural = "" if len(conversations) == 1 else "s"
    print(f"{len(conversations)} conversation{plural}, template {template.name}: all masks are good")


def _arguments(args: Sequence[str]) -> Any:
    parser = Parser(prog="test_conversation.py", description=__doc__)
    parser.add_argument("test", choices=[COMMAND], help="what to show")
    parser.add_argument(
        "--template_name", help="a template's name or .jinja file (default: the tokenizer's own)"
    )
    parser.add_argument("--tokenizer_name_or_path", required=True, help="a model folder or hub name")
    parser.add_argument("--model_max_length", type=int, default=4096, help="tokens kept (default: 4096)")
    parser.add_argument("--data_path", required=True, help="conversations, in any format that sft reads")
    given = parser.parse_strict(args)
    if given.model_max_length < 1:
        parser.error(f"--model_max_length is {given.model_max_length}; it must be at least 1")
    return given


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: no tokenizer can be loaded: {str(error).splitlines()[0]}") from error


def _show_one(conversation: Conversation, tokenizer: Any, template: Template, max_length: int) -> None:
    encoded = encode(conversation.messages, tokenizer, template, max_length, tools=conversation.tools)
    rendered = render(
        conversation.messages,
        template,
        tools=conversation.tools,
        special_tokens=tokenizer.special_tokens_map,
    )
    trained = sum(label != IGNORED for label in encoded.labels)
    cut = ", truncated" if encoded.truncated else ""
    print(f"== {conversation.id}: {len(encoded.input_ids)} tokens, {trained} trained on{cut}")
    print(f"-- rendered text\n{rendered.text}")
    print("-- tokens; what is trained on is marked")
    _print_marked(encoded, tokenizer)
    check_mask(encoded, tokenizer, template)


def _print_marked(encoded: Encoded, tokenizer: Any) -> None:
    if not sys.stdout.isatty():
        print(preview_plain(encoded, tokenizer))
        return
    from rich.console import Console

    Console(soft_wrap=True).print(preview(encoded, tokenizer))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
