"""What generates: one file an engine, each with `create(options) -> Engine` (see `base`)."""
