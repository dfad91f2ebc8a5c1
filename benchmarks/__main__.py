"""``python -m benchmarks``: measure, print Markdown tables, optionally keep them."""

from __future__ import annotations

import argparse
import compileall
import json
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks import circumstances, plan, report
from benchmarks.inside import tables, timing
from benchmarks.load import BenchmarkError
from benchmarks.processes import ROOT

README: Final = Path(__file__).with_name("README.md")
_MARKED: Final = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short run of about a minute; coarse figures"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every sample of the servers to FILE"
    )
    parser.add_argument("--write", action="store_true", help="write the tables into benchmarks/README.md")
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
    say("inside one process")
    inside = tables.measure(timing.QUICK if options.quick else timing.FULL)
    facts = circumstances.line(results)
    text = f"{facts}\n\n{report.table(results)}\n{inside}"
    print(text)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": circumstances.machine(), **asdict(results)}, indent=1)
        )
    if options.write:
        README.write_text(_MARKED.sub(lambda m: f"{m[1]}\n{text}\n{m[2]}", README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
