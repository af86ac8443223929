"""Losses as functions of tensors; torch is all they import."""
