"""What `serve run` and `serve deploy` import: `inference` builds the endpoint from the YAML file's `args`."""

from __future__ import annotations

from typing import Any

import ray

from autoalign.config.serve import ServeConfig
from autoalign.serving.application import application


def inference(args: dict[str, Any]) -> Any:
    """The endpoint; `args` are the keys of `autoalign-cli serve`."""
    return application(ServeConfig.build(args), ray.cluster_resources().get("GPU", 0) > 0)
