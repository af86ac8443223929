"""What judges are asked and what they said: prompts filled in, verdicts read. No models."""
