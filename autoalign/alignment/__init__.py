"""Automatic alignment as a job: an algorithm of `autoalign.algorithms` run over rounds, stage by stage."""
