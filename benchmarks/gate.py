"""What the gate's rules do over draws: when a recipe is dropped, and how often a loss passes.

    python -m benchmarks.gate [--json FILE]

Simulated answers, no image and no model. `stops`: a recipe that flips answers near the threshold,
beside one with three flips that is there already, by three rules: certain in a random order,
certain in the gate's order (`export.judge`), and at a level of 5 % whenever it stops (a confidence
sequence for sampling without replacement: the prior-posterior ratio of Waudby-Smith & Ramdas 2020,
NeurIPS, arXiv 2006.04347). `patients`: how often a loss of the whole tolerance passes by bounds for
lone images and by bounds over patients, in a set made as knee-kl's val.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from kneeedge.model.verdict import cannot_pass
from kneeedge.statistics.paired import paired_change
from kneeedge.statistics.settling import images_to_settle
from kneeedge.system.files import write_text

TOLERANCE = 0.01
BATCH = 8
"images after which a rule is asked"
BEST_FLIPS = 3
"of the recipe that is there already"
N_DRAWS = 200
N_PATIENT_DRAWS = 4000
CASES = ((315, 10, 0.94), (400, 20, 0.8), (2000, 60, 0.94), (2000, 60, 0.8))
"images, flips, the original's accuracy"
KNEES = np.repeat(np.arange(236), [2] * 79 + [1] * 157)
"the patient of each of 315 images"


@dataclass(frozen=True, kw_only=True)
class Stops:
    """The mean share of the images that a recipe answers before it is dropped, 0 to 1."""

    n: int
    flips: int
    accuracy: float
    certain_random: float
    "certain, images in a random order"
    certain_ordered: float
    "certain, first those that the original has wrong, then those nearest the threshold"
    level_random: float
    "wrong with a chance of 5 % at most, images in a random order"


@dataclass(frozen=True, kw_only=True)
class Patients:
    """How often a file passes that loses just the tolerance."""

    churn: float
    "share of answers that flip to the better, and as many more to the worse"
    together: float
    "share of patients whose images flip or stay together"
    passed_lone: float
    "by bounds for lone images"
    passed_grouped: float
    "by bounds over patients"


@dataclass(frozen=True)
class Draw:
    """One recipe's answers."""

    right: NDArray[np.bool_]
    "(N,) whether the original answers rightly"
    margins: NDArray[np.float64]
    "(N,) how far it is from another answer"
    flipped: NDArray[np.bool_]


def draw(rng: np.random.Generator, n: int, n_flips: int, accuracy: float) -> Draw:
    """Flips fall mostly, not always, on small margins."""
    margins = rng.uniform(0.05, 3.0, n)
    nearest = np.argsort(margins * rng.uniform(0.3, 1.0, n))[:n_flips]
    flipped = np.zeros(n, dtype=bool)
    flipped[nearest] = True
    return Draw(rng.random(n) < accuracy, margins, flipped)


@cache
def total_within(n: int, seen: int, hits: int, alpha: float) -> tuple[int, int]:
    """Least and most hits among `n`, of which `seen` were drawn with `hits`; at any time, 1 - α."""
    if seen == 0:
        return 0, n
    totals = np.arange(hits, n - (seen - hits) + 1)
    likelihood = (
        log_choose(totals, hits) + log_choose(n - totals, seen - hits) - log_choose(n, seen)
    )
    posterior = likelihood - logsumexp(likelihood)
    kept = totals[-np.log(n + 1) - posterior < -np.log(alpha)]
    return int(kept.min()), int(kept.max())


def log_choose(n: NDArray[np.integer] | int, k: int) -> NDArray[np.float64]:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(np.asarray(n) - k + 1))


def stopped_after(drawn: Draw, order: NDArray[np.intp], alpha: float) -> int:
    """Images answered before the recipe is dropped; `alpha` 0: where it is certain."""
    n = len(order)
    n_right = int(drawn.right.sum())
    for seen in range(BATCH, n + 1, BATCH):
        rows = order[:seen]
        right = drawn.right[rows]
        lost = int((drawn.flipped[rows] & right).sum())
        gained = int((drawn.flipped[rows] & ~right).sum())
        if lost + gained < BEST_FLIPS:
            continue
        seen_right = int(right.sum())
        most_gained = gained + (n - n_right) - (seen - seen_right)
        if alpha:
            lost, _ = total_within(n_right, seen_right, lost, alpha / 2)
            _, most_gained = total_within(n - n_right, seen - seen_right, gained, alpha / 2)
        if cannot_pass(most_gained, lost, n, TOLERANCE):
            return seen
    return n


def stops(n: int, n_flips: int, accuracy: float) -> Stops:
    """The three rules on the same draws."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(N_DRAWS):
        drawn = draw(rng, n, n_flips, accuracy)
        random = rng.permutation(n)
        ordered = np.lexsort((drawn.margins, drawn.right))
        rules = ((random, 0.0), (ordered, 0.0), (random, 0.05))
        shares.append([stopped_after(drawn, order, alpha) / n for order, alpha in rules])
    certain_random, certain_ordered, level_random = np.mean(shares, axis=0).round(4).tolist()
    return Stops(
        n=n,
        flips=n_flips,
        accuracy=accuracy,
        certain_random=certain_random,
        certain_ordered=certain_ordered,
        level_random=level_random,
    )


def patients(churn: float, together: float) -> Patients:
    """Draws of knees whose patients' images flip together, or each by itself."""
    rng = np.random.default_rng(0)
    labels = np.zeros(len(KNEES), dtype=int)
    passed = np.zeros(2)
    for _ in range(N_PATIENT_DRAWS):
        shared = (rng.random(236) < together)[KNEES]
        u = np.where(shared, rng.random(236)[KNEES], rng.random(len(KNEES)))
        before = (u > 1.0 - churn).astype(int)
        after = (u < TOLERANCE + churn).astype(int)
        lone = paired_change(labels, before, after).worst_loss
        grouped = paired_change(labels, before, after, KNEES).worst_loss
        passed += (lone <= TOLERANCE, grouped <= TOLERANCE)
    lone_share, grouped_share = (passed / N_PATIENT_DRAWS).round(4).tolist()
    return Patients(
        churn=churn, together=together, passed_lone=lone_share, passed_grouped=grouped_share
    )


def knees() -> dict[str, int | None]:
    """How many images of how many patients, and how many patients pass without a flip."""
    nothing = np.zeros(len(KNEES), dtype=int)
    alone = paired_change(nothing, nothing, nothing)
    return {
        "images": len(KNEES),
        "patients": len(np.unique(KNEES)),
        "with_two": int((np.bincount(KNEES) == 2).sum()),
        "patients_to_settle": images_to_settle(alone, TOLERANCE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = [(churn, together) for churn in (0.0, 0.01, 0.03) for together in (0.0, 0.5, 1.0)]
    record = {
        "tolerance": TOLERANCE,
        "knees": knees(),
        "draws": {"stops": N_DRAWS, "patients": N_PATIENT_DRAWS},
        "stops": [asdict(stops(*case)) for case in CASES],
        "patients": [asdict(patients(*pair)) for pair in pairs],
    }
    text = json.dumps(record, indent=1)
    print(text)
    if given.json:
        write_text(given.json, text + "\n")


if __name__ == "__main__":
    main()
