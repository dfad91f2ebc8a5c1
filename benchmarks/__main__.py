"""``python -m benchmarks``: measure, print one Markdown table, optionally keep it."""

from __future__ import annotations

import argparse
import compileall
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import plan, report
from benchmarks.load import BenchmarkError
from benchmarks.processes import ROOT


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run, under a minute; coarse figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--write", action="store_true", help="write the table into benchmarks/README.md")
    options = parser.parse_args()
    if not Path("/proc/self/stat").is_file():
        say("benchmarks need Linux: CPU time is read from /proc")
        return 1
    compileall.compile_dir(ROOT / "guardrail", quiet=1)
    compileall.compile_dir(ROOT / "benchmarks", quiet=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = plan.run(plan.QUICK if options.quick else plan.FULL, Path(folder), say)
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 1
    text = report.table(results)
    facts = report.circumstances(results)
    print(f"{text}\n{facts}")
    if options.json:
        options.json.write_text(json.dumps({"machine": report.machine(), **asdict(results)}, indent=1))
    if options.write:
        report.write_readme(text, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
