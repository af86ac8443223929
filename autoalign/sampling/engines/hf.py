"""transformers' `generate`: starts in seconds, runs anywhere.

Requests that arrive together run as one left-padded batch. Each answer draws from
a random generator of its own, so a seed gives the same text in whatever batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoalign.errors import MissingDependency, ModelError
from autoalign.sampling.engines.base import Completion, EngineOptions, GenerationRequest, RequestFailed

_GATHER_SECONDS = 0.02
SUPPORTS = frozenset({"logprobs"})
_Job = tuple[GenerationRequest, "asyncio.Future[Completion]"]


class HfEngine:
    """Batches of up to `concurrency` requests (16 unless said) with the same sampling parameters."""

    def __init__(self, options: EngineOptions) -> None:
        try:
            import torch
            import transformers
            from safetensors import SafetensorError
        except ImportError as error:
            raise MissingDependency("the hf backend needs: pip install torch transformers") from error
        device = "cuda" if options.use_gpu and torch.cuda.is_available() else "cpu"
        if device == "cpu" and options.threads:
            torch.set_num_threads(options.threads)  # Ray gives an actor the threads of its one CPU
        trust = options.trust_remote_code
        logging: Any = transformers.utils.logging
        auto: Any = transformers.AutoModelForCausalLM
        logging.disable_progress_bar()
        try:
            self._model = auto.from_pretrained(options.model, dtype=options.dtype, trust_remote_code=trust)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"{options.model}: transformers can't load it: {error}") from error
        self._device = device
        self._model = self._model.to(device).eval()
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            options.model, trust_remote_code=trust
        )
        self._context = options.max_model_len or getattr(self._model.config, "max_position_embeddings", None)
        self._batch_size = options.concurrency or 16
        self._waiting: list[_Job] = []
        self._runner: asyncio.Task[None] | None = None
        self._closed = threading.Event()

    async def generate(self, request: GenerationRequest) -> Completion:
        """Waits for a place in the next batch."""
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run_batches())
        return await future

    async def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        """Text as it is generated; leaving the loop early stops the generation."""
        loop, pieces, cancelled = asyncio.get_running_loop(), asyncio.Queue[str | None](), threading.Event()

        def put(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        running = asyncio.create_task(asyncio.to_thread(self._stream_in_thread, request, put, cancelled))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await running
        finally:
            cancelled.set()

    async def close(self) -> None:
        """Stop, within a token; the model goes with the process."""
        self._closed.set()
        if self._runner is not None:
            self._runner.cancel()

    async def load_weights(self, folder: Path) -> None:
        """The folder's weights into the model that is there."""
        from transformers import AutoModelForCausalLM

        loaded = await asyncio.to_thread(
            AutoModelForCausalLM.from_pretrained, str(folder), dtype=self._model.dtype
        )
        self._model.load_state_dict(loaded.state_dict())

    async def sleep(self, level: int) -> None:
        """Into the host's memory."""
        self._model = self._model.to("cpu")

    async def wake_up(self) -> None:
        """Back to where it was."""
        self._model = self._model.to(self._device)

    async def _run_batches(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_SECONDS)
            batch = self._take_batch()
            try:
                answers = await asyncio.to_thread(self._generate_batch, [request for request, _ in batch])
            except (RuntimeError, ValueError) as error:  # out of memory, a bad parameter
                for _, future in batch:
                    future.set_exception(RequestFailed(f"transformers failed: {error}"))
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.cancelled():
                    future.set_result(answer)

    def _take_batch(self) -> list[_Job]:
        """The first waiting request, and those with the same parameters, shortest prompts together."""
        params = self._waiting[0][0].params
        alike = [job for job in self._waiting if job[0].params == params]
        if params.repetition_penalty != 1:
            # Padding would count as tokens already seen.
            length = len(self._waiting[0][0].token_ids)
            alike = [job for job in alike if len(job[0].token_ids) == length]
        batch = sorted(alike, key=lambda job: len(job[0].token_ids))[: self._batch_size]
        taken = {id(job) for job in batch}
        self._waiting = [job for job in self._waiting if id(job) not in taken]
        return batch

    def _generate_batch(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        width = max(len(request.token_ids) for request in requests)
        recorder = LogProbs(width) if requests[0].params.logprobs else None
        output = self._run(requests, recorder)
        answers = [self._completion(r, row[width:].tolist()) for r, row in zip(requests, output, strict=True)]
        if recorder is None:
            return answers
        told = recorder.of(output)
        return [
            replace(
                answer,
                logprobs=tuple(row[: answer.completion_tokens]),
                token_ids=tuple(ids[width : width + answer.completion_tokens].tolist()),
            )
            for answer, row, ids in zip(answers, told, output, strict=True)
        ]

    def _run(
        self,
        requests: Sequence[GenerationRequest],
        recorder: LogProbs | None = None,
        is_over: Callable[[], bool] = lambda: False,
        **more: Any,
    ) -> Any:
        """Token ids `(batch, width + new)`, prompts padded on the left to `width`."""
        import torch

        params, pad = requests[0].params, self._end_ids(requests[0])[0]
        width = max(len(request.token_ids) for request in requests)
        ids = [[pad] * (width - len(r.token_ids)) + list(r.token_ids) for r in requests]
        mask = [[0] * (width - len(r.token_ids)) + [1] * len(r.token_ids) for r in requests]
        room = params.max_new_tokens if self._context is None else self._context - width
        with torch.inference_mode():
            return self._model.generate(
                input_ids=torch.tensor(ids, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                # Sampling is done by our own processors; what is left to pick is the likeliest.
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=_processors(requests, recorder),
                max_new_tokens=min(params.max_new_tokens, room),
                eos_token_id=self._end_ids(requests[0]),
                pad_token_id=pad,
                stop_strings=list(params.stop) or None,
                tokenizer=self._tokenizer if params.stop else None,
                stopping_criteria=[lambda *_, **__: self._closed.is_set() or is_over()],
                **more,
            )

    def _stream_in_thread(
        self, request: GenerationRequest, put: Callable[[str | None], None], cancelled: threading.Event
    ) -> None:
        import transformers

        class Pieces(transformers.TextStreamer):
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                if text:
                    put(text)

        streamer = Pieces(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        try:
            self._run([request], is_over=cancelled.is_set, streamer=streamer)
        finally:
            put(None)

    def _completion(self, request: GenerationRequest, new: list[int]) -> Completion:
        """Cut a row at its end token (what follows is padding) or its stop text."""
        ends = set(self._end_ids(request))
        end = next((place for place, token in enumerate(new) if token in ends), None)
        kept = new if end is None else new[: end + 1]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        cuts = [text.index(stop) for stop in request.params.stop if stop in text]
        reason = "stop" if cuts or end is not None else "length"
        return Completion(text[: min(cuts)] if cuts else text, reason, len(request.token_ids), len(kept))

    def _end_ids(self, request: GenerationRequest) -> list[int]:
        own = self._model.generation_config.eos_token_id
        more = own if isinstance(own, list) else [own] if own is not None else []
        return list(dict.fromkeys([*request.params.stop_token_ids, *more])) or [0]


class LogProbs:
    """Notes the model's log-probability of each token that was picked; holds one step's scores at a time.

    First in the chain of processors, it sees the model's own scores; which token was picked it sees a
    step later, at the end of the ids.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._scores: Any = None
        self._picked: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores as they are."""
        self._note(input_ids)
        self._scores = scores.float().log_softmax(-1)
        return scores

    def of(self, output: Any) -> list[list[float]]:
        """Those of each row, from all ids `(batch, width + new)`."""
        import torch

        self._note(output)
        rows: list[list[float]] = torch.cat(self._picked, dim=1).tolist()
        return rows

    def _note(self, ids: Any) -> None:
        if self._scores is not None:
            place = self._width + len(self._picked)
            self._picked.append(self._scores.gather(1, ids[:, place : place + 1]))


def _processors(requests: Sequence[GenerationRequest], recorder: LogProbs | None) -> Any:
    """What turns scores into the next token's: the usual filters, then one seeded draw a row."""
    from transformers.generation import logits_process as lp

    params = requests[0].params
    chain = lp.LogitsProcessorList([recorder] if recorder is not None else [])
    if params.repetition_penalty != 1:
        chain.append(lp.RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.greedy:
        return chain
    chain.append(lp.TemperatureLogitsWarper(params.temperature))
    if params.top_k > 0:
        chain.append(lp.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        chain.append(lp.TopPLogitsWarper(params.top_p))
    if params.min_p > 0:
        chain.append(lp.MinPLogitsWarper(params.min_p))
    chain.append(_seeded_draw([request.seed for request in requests]))
    return chain


def _seeded_draw(seeds: Sequence[int | None]) -> Callable[[Any, Any], Any]:
    """Gumbel-max: the argmax of `log p + Gumbel noise` is a draw from `p` (arXiv:1611.00712, section 2)."""
    import torch

    generators = [torch.Generator() for _ in seeds]
    for generator, seed in zip(generators, seeds, strict=True):
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)

    def draw(_input_ids: Any, scores: Any) -> Any:
        noise = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores.float() + gumbel.to(scores.device)

    return draw


async def create(options: EngineOptions) -> HfEngine:
    """Loads the model."""
    return await asyncio.to_thread(HfEngine, options)
