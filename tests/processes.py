"""Python code in a process of its own, for tests of how a process begins and ends."""

from __future__ import annotations

import subprocess
import sys


def run_code(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, for at most a minute; ``options`` are the interpreter's."""
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
