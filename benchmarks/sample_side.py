"""One side of the sampling benchmark in a process of its own; prints its figures as one JSON line.

python -m benchmarks.sample_side SETTINGS.json SIDE N
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sample_plan import Settings


def main(argv: Sequence[str]) -> None:
    """Run one side."""
    settings, side, n = Settings.read(Path(argv[0])), argv[1], int(argv[2])
    print("\n" + json.dumps({"side": side, "n": n, **_measures()[side](settings, n)}))


def _measures() -> dict[str, Callable[[Settings, int], dict[str, Any]]]:
    from benchmarks import sample_peers

    return {
        "prepare": lambda settings, _: prepare(settings),
        "autoalign": autoalign,
        "autoalign, Ray": lambda settings, n: autoalign(settings, n, launcher="ray"),
        "LLM.generate": sample_peers.llm_generate,
        "AsyncLLM": sample_peers.async_llm,
        "ray.data.llm": sample_peers.ray_data_llm,
    }


def prepare(settings: Settings) -> dict[str, Any]:
    """GSM8K's test questions and Alpaca's instructions in turn, and their token ids by our renderer."""
    from autoalign import formats
    from autoalign.sampling.prompts import Prompt
    from autoalign.sampling.prompts import prepare as rendered
    from autoalign.sampling.renderer import ChatRenderer

    half = -(-settings.rows // 2)
    sources = [
        formats.load([path], purpose="prompts", limit=half).conversations
        for path in (settings.gsm8k, settings.alpaca)
    ]
    mixed = [one for pair in zip(*sources, strict=True) for one in pair][: settings.rows]
    with settings.prompt_file.open("w", encoding="utf-8") as file:
        for number, one in enumerate(mixed):
            messages = [message.to_dict() for message in one.messages]
            file.write(json.dumps({"id": f"p{number}", "messages": messages}) + "\n")
    prompts: Any = formats.iter_records([str(settings.prompt_file)], purpose="prompts")
    ids = [
        p.token_ids
        for p in rendered(prompts, ChatRenderer(Path(settings.model), None))
        if isinstance(p, Prompt)
    ]
    settings.ids_file.write_text("".join(json.dumps(one) + "\n" for one in ids), encoding="utf-8")
    return {"prompts": len(ids), "prompt_tokens": sum(map(len, ids))}


def autoalign(settings: Settings, n: int, launcher: str = "local") -> dict[str, Any]:
    """`infer`, from the engine's start to the last answer; files and, with launcher ray, Ray included."""
    from autoalign.config.sample import InferConfig
    from autoalign.sampling.run import run

    config = InferConfig.build(
        {
            "model_path": settings.model,
            "test_file": str(settings.prompt_file),
            "output_dir": settings.folder,
            "output_file": f"answers-{n}.jsonl",
            "fresh": True,
            "limit": settings.prompts(n),
            "n": n,
            "temperature": 0.0 if n == 1 else 1.0,
            "max_new_tokens": settings.max_tokens,
            "seed": settings.seed,
            "launcher": launcher,
        }
    )
    report = run(config)
    if report.failed:
        raise SystemExit(f"{report.failed} answers failed")
    return {
        "tokens": report.output_tokens,
        "seconds": report.generation_seconds,
        "per_second": report.output_tokens / report.generation_seconds,
        "startup": report.startup_seconds,
        "first_answer": report.first_answer_seconds,
        "ledger_share": report.writing_seconds / report.generation_seconds,
        "whole": report.seconds,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
