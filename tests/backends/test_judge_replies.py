"""Twin of guardrail/backends/judge_replies.py."""
