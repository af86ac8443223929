"""`python -m autoalign.cli`."""

from autoalign.cli.main import entrypoint

entrypoint()
