"""Reward models at work: a file of answers in, the same rows with their rewards out."""
