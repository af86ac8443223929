"""Programs that a model wrote, run apart: `run` starts one, `inside` and `confine` run in its process."""
