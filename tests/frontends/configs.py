"""A ``guardrail.yaml`` for the ways in that open one."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import write_policies

_CONFIG = """\
version: 1
classifier: {kind: embedded}
policies: {directory: policies, input: [house], output: [house]}
audit: {sinks: [{kind: jsonl, path: audit.jsonl}]}
"""


def written(folder: Path, *more: str) -> Path:
    """The file, with one policy, embedded rules and ``audit.jsonl`` beside it; ``more`` are other lines."""
    write_policies(folder / "policies", {"house": "enforce"})
    file = folder / "guardrail.yaml"
    file.write_text(_CONFIG + "".join(f"{line}\n" for line in more))
    return file
