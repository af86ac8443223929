"""vLLM's own renderer, with the arguments that our engines get, gives the ids of training: every template."""

import asyncio

import pytest

from autoalign import chat
from autoalign.serving.served.vllm import server_arguments
from autoalign.serving.spec import EngineSpec
from tests.tiny import save_tiny_model
from tests.unit.chat_tokenizers import byte_level, metaspace

pytestmark = pytest.mark.slow

SYSTEM = {"role": "system", "content": "Be  brief.\n"}
TALK = [
    {"role": "user", "content": " Where is Zürich? <|im_end|> 你好"},
    {"role": "assistant", "content": "In Switzerland."},
    {"role": "user", "content": "And\n\n Bern?  "},
]
TOKENIZERS = {
    "byte level": lambda: byte_level(adds_bos=False),
    "byte level, adds its own start": lambda: byte_level(adds_bos=True),
    "metaspace, adds its own start": lambda: metaspace(adds_bos=True),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def served(request, tmp_path_factory):
    """(model folder, its tokenizer)."""
    folder = save_tiny_model(tmp_path_factory.mktemp("model"))
    tokenizer = TOKENIZERS[request.param]()
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


@pytest.fixture(scope="module")
def renderer(served):
    """Of a model folder: vLLM's renderer, and its model's config."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.renderers.hf import HfRenderer
    from vllm.tokenizers import get_tokenizer

    folder, _ = served
    spec = EngineSpec("vllm", "m", str(folder), "d", None, False, False, False, ("--enforce-eager",))
    arguments = AsyncEngineArgs.from_cli_args(server_arguments(spec, None))
    config = arguments.create_engine_config()
    return HfRenderer(config, get_tokenizer(str(folder))), config.model_config


def engine_ids(renderer, messages, template_file):
    """The prompt's ids of a chat request, as vLLM's server makes them."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.renderers.online_renderer import OnlineRenderer

    hf, model_config = renderer
    online = OnlineRenderer(
        model_config=model_config,
        renderer=hf,
        request_logger=None,
        chat_template=template_file.read_text(encoding="utf-8"),
        chat_template_content_format="string",
    )
    request = ChatCompletionRequest(model="m", messages=messages, max_tokens=1)
    _, prompts = asyncio.run(online.render_chat(request))
    return list(prompts[0]["prompt_token_ids"])


@pytest.mark.parametrize("with_system", [False, True])
@pytest.mark.parametrize("name", chat.template_names())
def test_the_engine_gets_the_ids_of_training(served, renderer, tmp_path, name, with_system):
    _, tokenizer = served
    template = chat.get_template(name)
    messages = [SYSTEM, *TALK] if with_system and name not in ("gemma", "mistral-instruct") else TALK
    file = tmp_path / "template.jinja"
    file.write_text(template.source, encoding="utf-8")
    assert engine_ids(renderer, messages, file) == chat.encode_prompt(messages, tokenizer, template)
