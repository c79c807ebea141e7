"""The trainings that confirm: of the default and of the best recipe, shared by all processes."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.decision import fit_decision
from kneeedge.model.spec import softmax
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.runs.recipe import RecipeFields
from kneeedge.runs.tuning import CONFIRM, Study, Trial
from kneeedge.system.files import write_text
from kneeedge.system.locks import POLL_SECONDS, try_hold
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import read_weights
from kneeedge.training.loop import fit
from kneeedge.training.score import build_spec
from kneeedge.tune.parts import confirmation_splits
from kneeedge.tune.pool import Pool, logits_of

DEFAULT, BEST = "default", "best"
SILENT = Progress(quiet=True)


@dataclass(frozen=True)
class Training:
    """One of them."""

    recipe: str
    "default or best"
    fields: RecipeFields
    seed: int
    "counted from 0, from the study's own"

    @property
    def name(self) -> str:
        return f"{self.recipe}-seed{self.seed}"

    def run(self, study: Study) -> Run:
        """Where it trains."""
        return Run(study.confirmations / self.name)

    def answers(self, study: Study) -> Path:
        """What it answered, and how long it took."""
        return self.run(study).folder / "answers.json"


@dataclass(frozen=True)
class ConfirmedAnswers:
    """What one training answers to the images of the confirmation part."""

    probabilities: NDArray[np.float64]
    "(N, K) at the temperature fitted on its val"
    predictions: NDArray[np.intp]
    "(N,), by the threshold chosen on its val"
    seconds: float = 0.0
    "that it took"


Pair = tuple[ConfirmedAnswers, ConfirmedAnswers]
"of the default and of the best recipe, by one seed"


def trainings(default: Trial, best: Trial, n_seeds: int) -> list[Training]:
    """Both recipes with each seed; none where they are the same."""
    if best.number == default.number:
        return []
    both = ((DEFAULT, default.fields), (BEST, best.fields))
    return [Training(name, fields, seed) for seed in range(n_seeds) for name, fields in both]


def train_all(pool: Pool, wanted: Sequence[Training]) -> None:
    """Return when every training has been done, by this process or another."""
    left = list(wanted)
    with pool.progress.stage("confirmation", len(wanted)) as stage:
        while left:
            done = next((training for training in left if train_if_free(pool, training)), None)
            if done is None:
                stage.remark("other processes train")
                time.sleep(POLL_SECONDS)
                continue
            left.remove(done)
            stage.advance(note=f"{done.recipe}, seed {done.seed}")


def train_if_free(pool: Pool, training: Training) -> bool:
    """Do a training where nobody has done it; False where another process is at it."""
    file = try_hold(pool.study.lock(training.name))
    if file is None:
        return False
    with file:
        run, path = training.run(pool.study), training.answers(pool.study)
        if not path.is_file() and not pool.study.report.is_file():  # cleared behind a report
            answers = train_once(pool, training, run)
            write_text(path, json.dumps(answers, allow_nan=False))
            for leftover in (run.model, run.last):
                leftover.unlink(missing_ok=True)
    return True


def train_once(pool: Pool, training: Training, run: Run) -> dict[str, object]:
    """One training by the rules of `kneeedge train`, and its answers to the confirmation part.

    Trained on all images that the search saw, but for a val by group, which stops it and sets
    temperature and threshold. Trainings share the cached views, whatever their seed. It goes on
    where it was stopped.
    """
    start = time.monotonic()
    run.folder.mkdir(parents=True, exist_ok=True)
    first = pool.plan.config.train.seed
    config = pool.config(training.fields, (first + training.seed) % 2**31)
    probabilities, predictions = train_and_answer(pool, config, run)
    return {
        "probabilities": probabilities.tolist(),
        "predictions": predictions.tolist(),
        "seconds": round(time.monotonic() - start, 2),
    }


def train_and_answer(
    pool: Pool, config: TrainConfig, run: Run
) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
    """Probabilities (N, K) and predictions (N,) of the held back images."""
    splits = confirmation_splits(pool.parts, config)
    train = splits.split("train")
    batches = pool.batches(config, train, splits.split("val"))
    model = pool.model(config)
    fabric = pool.fabric()
    fit(model, batches, config, run, fabric, SILENT)
    model.load_state_dict(read_weights(run.model, model))
    spec = build_spec(run, replace(pool.plan.record, config=config), splits)
    logits = logits_of(model, batches, fabric)
    spec = fit_decision(spec, logits, batches.val_labels, config.threshold, "val")
    held_back = pool.batches(config, train, pool.parts.split(CONFIRM))
    probabilities = softmax(logits_of(model, held_back, fabric), spec.temperature)
    return probabilities, spec.decide(probabilities).astype(np.intp)


def read_pairs(study: Study, done: Sequence[Training]) -> list[Pair]:
    """What the trainings answered, seed by seed."""
    found = [read_answers(training.answers(study)) for training in done]
    return list(zip(found[::2], found[1::2], strict=True))


def read_answers(path: Path) -> ConfirmedAnswers:
    record = json.loads(path.read_text())
    return ConfirmedAnswers(
        np.array(record["probabilities"], dtype=np.float64),
        np.array(record["predictions"], dtype=np.intp),
        record["seconds"],
    )


def drop_trainings(study: Study) -> None:
    """Give the disk back: figures stand in the report."""
    shutil.rmtree(study.confirmations, ignore_errors=True)
