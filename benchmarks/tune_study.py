"""What a study of `kneeedge tune` tried, and what that was worth: its own report, without paths.

kneeedge tune DATA --weights FILE --name study
python -m benchmarks.tune_study runs/study --json FILE
"""

import argparse
from pathlib import Path

from kneeedge.runs.tuning import Study
from kneeedge.system.strict_json import to_json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    report = Study(given.study).read_report()
    config = report.config
    shared = {
        "data": Path(config.train.data).name,
        "minutes": config.minutes,
        "folds": config.folds,
        "seeds": config.seeds,
    }
    found = {name: value for name, value in vars(report).items() if name != "config"}
    given.json.write_text(to_json({**shared, **found}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
