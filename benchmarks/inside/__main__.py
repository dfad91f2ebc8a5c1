"""``python -m benchmarks.inside``: these tables alone."""

from __future__ import annotations

import argparse

from benchmarks.inside.tables import measure
from benchmarks.inside.timing import FULL, QUICK


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inside", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller texts; coarse figures")
    print(measure(QUICK if parser.parse_args().quick else FULL))


if __name__ == "__main__":
    main()
