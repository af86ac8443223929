"""Answers judged: a file of answers in, the same rows with their scores out."""
