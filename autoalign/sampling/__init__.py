"""Sampling: prompts through an engine, answers out in the input's order."""
