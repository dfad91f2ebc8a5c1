"""Twin of guardrail/backends/retry.py."""
