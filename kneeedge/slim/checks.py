"""What a run must have to be slimmed; it is looked at before any work."""

from kneeedge.data.dataset import Dataset
from kneeedge.errors import ConfigError, DataError, NotFoundError
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.folder import Run
from kneeedge.runs.record import RunRecord

LEAST_IMAGES = 4
"for training: two to mend a layer by, and two to see what it changes"


def check_original(run: Run, record: RunRecord, spec: ModelSpec) -> None:
    """Raise ConfigError where the run cannot be slimmed."""
    if record.slimmed is not None:
        remedy = f"slim its original, {record.original}, further"
        raise ConfigError(f"{run.folder} is a slim run already", remedy)
    if spec.architecture.head != "gap":
        problem = (
            f"{run.folder} has the classifier head, and slim narrows convolutions alone, whose "
            "class maps it trains by"
        )
        raise ConfigError(problem, "train with --head gap, or export it as it is")
    if not run.answers.is_file():
        problem = f"{run.answers}: the original's answers are missing"
        raise NotFoundError(problem, "train the run again")


def check_images(dataset: Dataset) -> None:
    """Raise DataError where the training images are too few to see what a narrowing costs."""
    n = len(dataset.split("train"))
    if n < LEAST_IMAGES:
        problem = f"{n} training images are too few to choose widths by"
        raise DataError(dataset.root, problem, f"slim a run of {LEAST_IMAGES} or more")
