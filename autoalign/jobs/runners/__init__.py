"""What runs a job's process: a Ray cluster, this machine, or nothing at all in a test."""
