"""The command line: thin modules that parse, call a job's `run(config)`, and print."""
