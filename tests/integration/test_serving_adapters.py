"""A LoRA adapter and a model of vectors beside the demo model, on one endpoint with the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.served_endpoint import Endpoint, served
from tests.integration.served_models import (
    QUESTION,
    last_states,
    peft_answer,
    save_adapter,
    save_vector_model,
)

pytestmark = pytest.mark.slow

MODEL, ADAPTER, VECTORS = "smollm2-135m-instruct", "tuned", "vectors"
TOKENS = 8


@pytest.fixture(scope="module")
def root(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_adapter(demo_model, folder / ADAPTER)
    save_vector_model(folder / VECTORS)
    return folder


@pytest.fixture(scope="module")
def endpoint(demo_model: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    models = [f"--checkpoint_path={demo_model}", f"--model_name={MODEL}", f"--model_roots={root}"]
    with served(tmp_path_factory.mktemp("home"), *models, "--dtype=float32") as running:
        yield running


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=endpoint.token, max_retries=0)


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(messages=QUESTION, temperature=0, **options)


def test_an_adapter_is_listed_with_its_base(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, ADAPTER, VECTORS]
    assert client.models.retrieve(ADAPTER).parent == MODEL  # type: ignore[attr-defined]


def test_an_adapter_answers_as_peft_does_beside_its_base(
    client: openai.OpenAI, demo_model: Path, root: Path
) -> None:
    def ids(model: str) -> list[int]:
        more = {"ignore_eos": True, "return_token_ids": True}
        return list(chat(client, model=model, max_tokens=TOKENS, extra_body=more).choices[0].token_ids)

    base, tuned, again = ids(MODEL), ids(ADAPTER), ids(MODEL)
    assert tuned == peft_answer(demo_model, root / ADAPTER, tokens=TOKENS)
    assert tuned != base == again


def test_vectors_are_the_models_own_states(client: openai.OpenAI, root: Path) -> None:
    texts = ["a small boat", "What is 2 plus 2?"]
    answer = client.embeddings.create(model=VECTORS, input=texts, encoding_format="float")
    assert [item.index for item in answer.data] == [0, 1]
    for item, expected in zip(answer.data, last_states(root / VECTORS, texts), strict=True):
        assert item.embedding == pytest.approx(expected, abs=1e-4)
    packed = client.embeddings.create(model=VECTORS, input=texts[0])  # the client asks for base64 by itself
    assert packed.data[0].embedding == pytest.approx(answer.data[0].embedding, abs=1e-6)


@pytest.mark.parametrize("model", [MODEL, VECTORS])
def test_what_a_model_cannot_do_is_told(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        if model == MODEL:
            client.embeddings.create(model=model, input="x")
        else:
            chat(client, model=model)
    assert refused.value.code == "unsupported_by_model"
