"""Synthesis as a job: seeds from files, a method of `autoalign.synthesis`, engines, rows on disk."""
