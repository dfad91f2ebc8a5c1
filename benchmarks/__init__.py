"""Benchmarks: what the guard costs beside a bare pass-through, measured in one run. See README.md."""
