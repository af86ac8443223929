"""The training loop and what drives it: one process, torchrun, or Ray Train."""
