"""What a first run costs: seconds and disk of each way to install, and of `kneeedge demo`.

    python -m benchmarks.first_run --json FILE [--extras cpu --extras train,cpu]

Each set of extras is installed from this source tree into a fresh environment, with the versions of
constraints.txt and without pip's cache, so that the seconds hold the download. The disk is that of
all files that the install added. The demo runs in the interpreter that runs this. Processor time is
kept beside the seconds, since it depends less on what else runs. Needs Linux or macOS.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kneeedge.system.machine import environment

ROOT = Path(__file__).parent.parent
EXTRAS = ("cpu", "train,cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extras", action="append", help="once for each set; all by default")
    parser.add_argument("--json", type=Path, required=True, help="write the result here")
    asked = parser.parse_args()
    result: dict[str, Any] = {"environment": asdict(environment()), "demo": None, "installs": []}
    print("# kneeedge demo", file=sys.stderr, flush=True)
    result["demo"] = demo()
    for extras in asked.extras or EXTRAS:
        print(f"# pip install kneeedge[{extras}]", file=sys.stderr, flush=True)
        result["installs"].append(install(extras))
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def install(extras: str) -> dict[str, Any]:
    """Seconds and megabytes of one install, and how many distributions it brought."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "venv"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        before = megabytes(folder)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        quiet = ["--quiet", "--no-cache-dir", "-c", ROOT / "constraints.txt"]
        cost = timed([*pip, "install", *quiet, f"{ROOT}[{extras}]"])
        listed = [*pip, "list", "--format", "json"]
        listing = subprocess.run(listed, check=True, capture_output=True)
        return {
            "extras": extras,
            **cost,
            "mb": round(megabytes(folder) - before, 1),
            "n_distributions": len(json.loads(listing.stdout)) - 1,  # but for pip
        }


def demo() -> dict[str, float]:
    """Seconds and megabytes of the demo."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "demo"
        cost = timed([sys.executable, "-m", "kneeedge", "demo", "--out", out])
        return {**cost, "mb": round(megabytes(out), 1)}


def timed(command: list[Any]) -> dict[str, float]:
    """Run a command: its wall and processor seconds. Raises CalledProcessError where it fails."""
    before = processor_seconds()
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "cpu_seconds": round(processor_seconds() - before, 1)}


def processor_seconds() -> float:
    """Of all child processes that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def megabytes(folder: Path) -> float:
    """All files below a folder; links count for nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


if __name__ == "__main__":
    main()
