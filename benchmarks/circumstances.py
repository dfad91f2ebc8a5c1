"""Where, when and on what the figures were taken, and how undisturbed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.plan import Results
from benchmarks.processes import ROOT

_PACKAGES: Final = ("aiohttp", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "anyio")


def others(results: Results) -> str:
    """How much of the server's core other processes took: above a few per cent, figures are coarse."""
    runs = [
        s
        for by_name in results.samples.values()
        for by_n in by_name.values()
        for x in by_n.values()
        for s in x
    ]
    return f"others on the server's core {median([run.others for run in runs]):.0%}"


def machine() -> dict[str, str]:
    """Where and on what the figures were taken."""
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _commit() -> str:
    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--", "guardrail") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _cpu_model() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", file.read_text()) if file.is_file() else None
    return found[1] if found else platform.machine()


def line(results: Results) -> str:
    """All of it in one line."""
    return "; ".join([*(f"{key} {value}" for key, value in machine().items()), others(results)])
