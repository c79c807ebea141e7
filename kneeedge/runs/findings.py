"""What was found of a run's files after their export: `joint.json` and `stress.json` of the run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from kneeedge.errors import CheckpointError
from kneeedge.inference.joint import JointReport
from kneeedge.runs.folder import Run
from kneeedge.stress.record import StressReport
from kneeedge.system.files import write_text
from kneeedge.system.strict_json import from_json, to_json

Report = TypeVar("Report")


@dataclass(frozen=True)
class Finding(Generic[Report]):
    """One kind of report, of which a run keeps the last."""

    name: str
    "of its file, without `.json`"
    kind: type[Report]
    command: str
    "that finds it"

    def path(self, run: Run) -> Path:
        """Where it stands."""
        return run.folder / f"{self.name}.json"

    def read(self, run: Run) -> Report | None:
        """What was found; None where nothing was, CheckpointError where it does not fit."""
        path = self.path(run)
        if not path.is_file():
            return None
        try:
            return from_json(self.kind, path.read_text(encoding="utf-8"))
        except ValueError as error:
            remedy = f"remove it, or run `{self.command}` again"
            raise CheckpointError(path, f"it does not fit ({error})", remedy) from error

    def write(self, run: Run, report: Report) -> None:
        """Write it, in place of an older one; its owner's alone, since it may name images."""
        write_text(self.path(run), to_json(report) + "\n", private=True)


JOINT = Finding("joint", JointReport, "kneeedge evaluate MODEL DATA --joint")
STRESS = Finding("stress", StressReport, "kneeedge stress MODEL… DATA")


def run_of_file(model: Path, sha256: str) -> Run | None:
    """The finished run among whose exported files `model` is; None where it is in none's."""
    run = Run(model.resolve().parent.parent)
    is_in_run = model.resolve().parent == run.models.resolve() and run.is_finished
    return run if is_in_run and sha256 in run.exported_hashes() else None
