"""Speed and memory against peers, in one run, alternating: `make bench-train`; see docs/benchmarks.md."""
