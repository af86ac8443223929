"""One strict pydantic class a job; nothing here imports torch, ray or vllm."""
