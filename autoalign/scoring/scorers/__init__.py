"""Scorers, one file each: `Options` and `create(options, job) -> Scorer` (see `autoalign.scoring.scorer`)."""
