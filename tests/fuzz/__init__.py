"""A seeded fuzzer of a running service: `python -m tests.fuzz --help`."""
