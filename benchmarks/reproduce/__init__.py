"""The figures of both papers, each from one command: ``python -m benchmarks.reproduce --help``."""
