"""kneeedge beside what a user would run in its place: same weights, images and machine, in one go.

    python -m pip install -c constraints.txt -e ".[train,cpu]" --group peers
    python -m benchmarks.peers --run RUN --data DATA [--json FILE] [--markdown FILE] [--only NAMES]

RUN is a finished run with its exported files in RUN/models; DATA the folder that it was trained on.
First each peer's file is made (`prepare.py`), then every subject takes its turn in each of several
rounds, so that drift of the machine hits all alike; each turn is a fresh process. A turn answers
its share of the test split, some images one by one and the others in batches of two sizes, so that
accuracy, latency and throughput come from the same runs. All get the same uint8 pixels from the one
pixel path and give logits; normalisation counts, wherever it is done. All use the same threads, the
physical cores. Memory is the peak of the turn's process above what it held before it imported the
runtime. The ceiling is probed in each round.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.peers.rows import table
from benchmarks.peers.study import Options, study
from kneeedge.system.machine import available_cpus
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--run", required=True)
    add("--data", required=True)
    add("--json", type=Path)
    add("--markdown", type=Path)
    add("--only", default="", help="names of subjects, with commas between them")
    add("--threads", type=int, default=available_cpus())
    add("--rounds", type=int, default=Options.rounds)
    add("--n-single", type=int, default=Options.n_single, help="single images a round")
    add("--n-accuracy", type=int, help="so many test images, for a trial of the study")
    given = parser.parse_args()
    options = Options(
        run=given.run,
        data=given.data,
        threads=given.threads,
        only=tuple(filter(None, given.only.split(","))),
        rounds=given.rounds,
        n_single=given.n_single,
        n_accuracy=given.n_accuracy,
    )
    with tempfile.TemporaryDirectory(prefix="peers-") as work:
        result = study(options, Path(work), Progress())
    text = table(result.rows)
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n", encoding="utf-8")
    if given.json:
        given.json.write_text(to_json(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
