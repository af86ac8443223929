"""What `serve run` and `serve deploy` import: `inference` builds the endpoint from the YAML file's `args`."""

from __future__ import annotations

from typing import Any

import ray

from autoalign.config.serve import ServeConfig
from autoalign.serving.application import application
from autoalign.serving.run import absolute, check


def inference(args: dict[str, Any]) -> Any:
    """The endpoint; `args` are the keys of `autoalign-cli serve`.

    Relative paths are looked for from where the head's processes run: the folder of `ray start`, or of
    `serve run` where that starts Ray by itself.

    Raises:
        ConfigError: a key is wrong.
        ModelError: the checkpoint is no whole model folder; Ray Serve says so in its status.
    """
    config = ServeConfig.build(args)
    check(config)
    return application(absolute(config), ray.cluster_resources().get("GPU", 0) > 0)
