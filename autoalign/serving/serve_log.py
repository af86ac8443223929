"""Where our lines go in a replica of Ray Serve."""

from __future__ import annotations

import logging


def join_serve_log() -> None:
    """Write our lines, requests' too, where Ray Serve writes its own of this replica.

    Of itself Python writes warnings and worse alone, to stderr.
    """
    ours = logging.getLogger("autoalign.serving")
    ours.setLevel(logging.INFO)
    for handler in logging.getLogger("ray.serve").handlers:
        ours.addHandler(handler)
