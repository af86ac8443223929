"""Parts of a training step in bfloat16 on a CPU, written in C; without a C compiler PyTorch does them."""
