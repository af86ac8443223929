"""OpenAI's batches: a file of chat completion requests, answered by sampling jobs."""
