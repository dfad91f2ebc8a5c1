"""Measure the detectors and write docs/detectors.md: ``python -m scripts.detectors [--check]``."""
