"""`ray.serve.llm` as it comes, but for the engine's arguments.

python -m benchmarks.ray_llm_side MODEL PORT
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app


def main(model: str, port: int) -> None:
    """Serve until Ctrl-C."""
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    config = LLMConfig(
        model_loading_config={"model_id": Path(model).name, "model_source": model},
        deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
        engine_kwargs={"enforce_eager": True, "enable_chunked_prefill": False},
        placement_group_config={"bundles": [{"CPU": 1}]},
    )
    serve.run(build_openai_app({"llm_configs": [config]}), name="llm")
    try:
        threading.Event().wait()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
