"""What `kneeedge audit` finds in a data set, in counts: nothing that names a single image.

python -m benchmarks.audit_summary --data DATA --json FILE [--group-regex REGEX]
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from kneeedge.audit.run import audit
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--group-regex")
    parser.add_argument("--json", type=Path, required=True, help="write the result here")
    asked = parser.parse_args()
    facts = asdict(environment())
    start = time.perf_counter()
    result = audit(asked.data, asked.group_regex, None, Progress())
    seconds = time.perf_counter() - start
    copies = result.copies
    conflicts = Counter(pair.kind for pair in copies.conflicts)
    record = {
        "environment": facts,
        "data": asked.data.name,
        "seconds": round(seconds, 1),
        "counts": [
            {"split": split, "class": name, "n": n}
            for split, classes in result.counts.items()
            for name, n in classes.items()
        ],
        "n_unreadable": len(result.unreadable),
        "n_leaks": len(copies.leaks),
        "n_groups": len(set(copies.groups.values())),
        "pairs": [
            {"kind": kind, "n": n, "n_with_both_labels": conflicts[kind]}
            for kind, n in sorted(Counter(pair.kind for pair in copies.pairs).items())
        ],
        "shortcut": json.loads(to_json(result.shortcut)),
    }
    asked.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
