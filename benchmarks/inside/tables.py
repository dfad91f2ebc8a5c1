"""All tables of what runs inside one process."""

from __future__ import annotations

from benchmarks.inside import detection, guard, restoring
from benchmarks.inside.timing import Effort


def measure(effort: Effort) -> str:
    """Markdown."""
    return "\n".join(table(effort) for table in (guard.measure, restoring.measure, detection.measure))
