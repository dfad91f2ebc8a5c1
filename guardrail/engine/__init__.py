"""The asynchronous middle: knows core, detectors and ports, nothing else."""
