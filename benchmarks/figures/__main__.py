"""Write every figure of the pages from the results; with --check, exit 1 where they differ.

python -m benchmarks.figures [--check]
"""

import argparse
import sys
from difflib import unified_diff

from benchmarks.figures.pages import PAGES, ROOT, differing
from benchmarks.figures.results import FigureError
from benchmarks.figures.unsourced import unsourced


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    asked = parser.parse_args()
    try:
        changed = differing()
    except FigureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, new in changed.items():
        old = (ROOT / name).read_text(encoding="utf-8")
        if asked.check:
            sys.stderr.writelines(
                unified_diff(old.splitlines(True), new.splitlines(True), name, "results", n=0)
            )
        else:
            (ROOT / name).write_text(new, encoding="utf-8")
            print(f"{name}: written from the results")
    loose = [
        f"{name}:{line}: {number} has no source: {context}"
        for name in PAGES
        for line, number, context in unsourced((ROOT / name).read_text(encoding="utf-8"))
    ]
    print("\n".join(loose), file=sys.stderr, end="\n" if loose else "")
    return 1 if loose or (asked.check and changed) else 0


if __name__ == "__main__":
    sys.exit(main())
