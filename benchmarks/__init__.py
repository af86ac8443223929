"""Speed against peers, in one run, alternating; results as JSON under `benchmarks/results/`."""
