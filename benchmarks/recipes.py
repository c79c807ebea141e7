"""What recipes of training are worth: each with the same seeds, scored, exported and stressed.

    python -m benchmarks.recipes DATA --recipe NAME=OPTIONS … [--seeds N] [--jobs N] --out FOLDER
        [--train OPTIONS] [--severities 1,3,5] [--json FILE]

OPTIONS are what `kneeedge train` takes, as one text; those of --train are for all recipes. Each
recipe and seed becomes a run in FOLDER, whose network is then stressed on val by
`benchmarks.stress_original`, unless --severities is empty; one that is there is not trained again.
The first recipe is what the others are held against, seed by seed. Runs beside each other share the
machine: their times say little.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.seeds import paired
from kneeedge.runs.folder import Run, open_run
from kneeedge.system.machine import environment
from kneeedge.system.strict_json import to_json

SCORES = ("accuracy", "auroc", "sensitivity", "specificity", "ece")
"of a split"
SHOWN = ("val accuracy", "val auroc", "test accuracy", "test auroc", "stress mean wrong_unrefused")
STRESSED = ("accuracy", "auroc", "refused", "wrong_unrefused")
"of a kind and severity"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, and by which options."""

    name: str
    options: tuple[str, ...]

    def folder(self, out: Path, seed: int) -> Path:
        return out / f"{re.sub(r'[^a-z0-9]+', '-', self.name.lower())}-{seed}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all runs share."""

    data: Path
    options: tuple[str, ...]
    "of `kneeedge train`"
    out: Path
    severities: str

    def run(self, recipe: Recipe, seed: int) -> dict[str, Any]:
        """The record of one run, which is trained, exported and stressed where it is not yet."""
        folder = recipe.folder(self.out, seed)
        if not Run(folder).spec.is_file():
            resumed = Run(folder).config.is_file()
            chosen = [*self.options, *recipe.options, "--seed", str(seed)]
            named = [str(self.data), "--runs", str(self.out), "--name", folder.name, *chosen]
            python(
                "kneeedge", "train", *(["--resume", str(folder)] if resumed else named), "--quiet"
            )
        stress = self.stress(folder) if self.severities else {"rows": []}
        print(f"{folder.name}: done", file=sys.stderr, flush=True)
        return record_of(open_run(folder), seed, stress)

    def stress(self, folder: Path) -> dict[str, Any]:
        """How the run's network answers corrupted images of val."""
        result = folder / f"stress-{self.severities}.json"
        if not result.is_file():
            asked = [str(folder), "--severities", self.severities, "--json", str(result)]
            python("benchmarks.stress_original", *asked)
        stressed: dict[str, Any] = json.loads(result.read_text())
        return stressed


def python(*arguments: str) -> None:
    """Run one module; what it prints is shown where it fails."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")


def record_of(run: Run, seed: int, stress: dict[str, Any]) -> dict[str, Any]:
    """The figures of one run."""
    metrics = json.loads(run.metrics.read_text())
    config = run.read_config()
    return {
        "seed": seed,
        "device": config.device,
        "n_frozen_blocks": config.n_frozen_blocks,
        "n_views": config.n_views,
        "epochs": metrics["epochs"],
        "kept_epoch": metrics["kept_epoch"],
        **{split: scores_of(metrics[split]) for split in ("val", "test") if split in metrics},
        "stress": [stressed_of(row) for row in stress["rows"]],
    }


def scores_of(evaluation: dict[str, Any]) -> dict[str, float]:
    return {name: value_of(evaluation[name]) for name in SCORES if name in evaluation}


def stressed_of(row: dict[str, Any]) -> dict[str, Any]:
    figures = {name: value_of(row[name]) for name in STRESSED}
    return {"kind": row["kind"], "severity": row["severity"], **figures}


def value_of(figure: Any) -> float:
    """A number, alone or with its interval."""
    return round(float(figure["value"] if isinstance(figure, dict) else figure), 6)


def flat(record: dict[str, Any]) -> dict[str, float]:
    """Every figure of a run by a name of its own, as `val auroc` and `blur 3 accuracy`."""
    named = {
        f"{split} {name}": value
        for split in ("val", "test")
        for name, value in record.get(split, {}).items()
    }
    for row in record["stress"]:
        cell = f"{row['kind']} {row['severity']}"
        named |= {f"{cell} {name}": row[name] for name in STRESSED}
    for name in STRESSED if record["stress"] else ():
        named[f"stress mean {name}"] = mean(row[name] for row in record["stress"])
    return named


def compared(first: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure what `paired` says beside the first's."""
    before = [flat(record) for record in first]
    after = [flat(record) for record in runs]
    names = [name for name in before[0] if all(name in figures for figures in (*before, *after))]
    return {name: paired([a[name] for a in before], [b[name] for b in after]) for name in names}


def named_recipe(text: str) -> Recipe:
    name, _, options = text.partition("=")
    return Recipe(name=name, options=tuple(shlex.split(options)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", type=named_recipe, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs beside each other")
    parser.add_argument("--train", default="", help="options of `kneeedge train` for all recipes")
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    study = Study(
        data=given.data,
        options=tuple(shlex.split(given.train)),
        out=given.out,
        severities=given.severities,
    )
    # The seeds first, so that a study that is cut short has whole ones.
    jobs = [(recipe, seed) for seed in range(given.seeds) for recipe in given.recipe]
    with ThreadPoolExecutor(given.jobs) as pool:
        records = list(pool.map(lambda job: study.run(*job), jobs))
    runs: dict[str, list[dict[str, Any]]] = {recipe.name: [] for recipe in given.recipe}
    for (recipe, _), record in zip(jobs, records, strict=True):
        runs[recipe.name].append(record)
    first = runs[given.recipe[0].name]
    rows = [
        {
            "name": recipe.name,
            "options": shlex.join(recipe.options),
            "runs": runs[recipe.name],
            "compared": compared(first, runs[recipe.name]),
        }
        for recipe in given.recipe
    ]
    for row in rows:
        for name in filter(row["compared"].get, SHOWN):
            figures = row["compared"][name]
            change = figures["change"]
            print(
                f"{row['name']:24} {name:30} {figures['mean']:.4f} ± {figures['sd']:.4f}"
                f"   change {change['mean']:+.4f} ± {change['sd']:.4f}"
            )
    if given.json:
        shared = {"data": given.data.name, "seeds": given.seeds, "environment": environment()}
        given.json.write_text(to_json({**shared, "recipes": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
