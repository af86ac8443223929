"""Texts that may be edited: rules and prompts, one file each."""
