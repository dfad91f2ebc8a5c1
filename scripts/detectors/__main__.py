"""Write the parts of docs/detectors.md between its markers, and print them.

With --check nothing is written; the exit code is 1 when the page is out of date. Without the evaluation
folder its figures stay as they are.
"""

from __future__ import annotations

import sys

from scripts.detectors.folder import FOLDER, figures
from scripts.detectors.own import ROOT, catalogue, own_cases
from scripts.detectors.tables import page_with


def main() -> int:
    """The exit code."""
    page = ROOT / "docs/detectors.md"
    parts = {"catalogue": catalogue, "own cases": own_cases}
    if FOLDER.is_dir():
        parts["figures"] = figures
    else:
        print(f"the figures stay as they are: no {FOLDER}", file=sys.stderr)
    old = text = page.read_text()
    check = "--check" in sys.argv
    for part, written in parts.items():
        lines = list(written())
        text = page_with(text, part, lines)
        if not check:
            print("\n".join(lines), end="\n\n")
    if not check:
        page.write_text(text)
    elif text != old:
        print("out of date: detectors.md; run python -m scripts.detectors", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
