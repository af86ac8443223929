"""Engines that serve, one file each; `backend` in `config/serve.py` names those that there are."""
