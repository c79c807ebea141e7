"""The whole chain on one data folder, each command as a user types it, with its seconds.

    python -m benchmarks.chain --data DATA --weights FILE --out FOLDER --json FILE

audit → train → export → infer → evaluate → verify, each a process of its own. The result keeps each
command, its wall time and its own JSON, without what names single images.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kneeedge.system import machine

NAMELESS = ("cases", "flips", "groups", "images", "largest", "predictions", "samples")
"what names single images: how many there are is kept"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="as `kneeedge train --weights`")
    parser.add_argument("--group-regex", default=r"(\d{7})[LR]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the run")
    parser.add_argument("--json", type=Path, required=True, help="write the result here")
    asked = parser.parse_args()
    environment = asdict(machine.environment())
    result: dict[str, Any] = {"environment": environment, "steps": []}
    for name, command in commands(asked):
        print(f"$ kneeedge {shlex.join(command)}", file=sys.stderr, flush=True)
        result["steps"].append(run_step(name, command, asked.out / f"{name}.json"))
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def commands(asked: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """The name and the arguments of each step."""
    data = str(asked.data)
    run = asked.out / "runs" / "chain"
    int8 = str(run / "models" / "chain.int8.onnx")
    patients = ["--group-regex", asked.group_regex]
    train = ["train", data, "--weights", asked.weights, *patients, "--seed", str(asked.seed)]
    return [
        ("audit", ["audit", data, *patients]),
        ("train", [*train, "--runs", str(asked.out / "runs"), "--name", "chain"]),
        ("export", ["export", str(run)]),
        ("infer", ["infer", f"{data}/test", "--model", int8, "--out", str(asked.out / "rows.csv")]),
        ("evaluate", ["evaluate", int8, data, *patients]),
        ("verify", ["verify", int8]),
    ]


def run_step(name: str, command: list[str], json_file: Path) -> dict[str, Any]:
    """Run one command; raises CalledProcessError where it fails."""
    json_file.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    full = [sys.executable, "-m", "kneeedge", *command, "--json", str(json_file)]
    subprocess.run(full, check=True, stdout=subprocess.DEVNULL)
    seconds = round(time.perf_counter() - start, 1)
    said = json.loads(json_file.read_text(encoding="utf-8"))
    return {"step": name, "seconds": seconds, "said": nameless(said)}


def nameless(value: Any) -> Any:
    """`value` with what names single images as its length, and paths as their last part."""
    if isinstance(value, dict):
        return {
            key: len(item) if key in NAMELESS and isinstance(item, list | dict) else nameless(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [nameless(item) for item in value]
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return value


if __name__ == "__main__":
    main()
