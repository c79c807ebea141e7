"""`joint.json` of a run: what a file of it sees of the joint, as `evaluate --joint` found it."""

from pathlib import Path

from kneeedge.errors import CheckpointError
from kneeedge.inference.joint import JointReport
from kneeedge.runs.folder import Run
from kneeedge.system.files import write_text
from kneeedge.system.strict_json import from_json, to_json


def joint_record(run: Run) -> Path:
    """Where it stands."""
    return run.folder / "joint.json"


def read_joint(run: Run) -> JointReport | None:
    """What was found; None where nothing was, CheckpointError where it does not fit."""
    path = joint_record(run)
    if not path.is_file():
        return None
    try:
        return from_json(JointReport, path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = "remove it, or run `kneeedge evaluate MODEL DATA --joint` again"
        raise CheckpointError(path, f"it does not fit ({error})", remedy) from error


def write_joint(run: Run, report: JointReport) -> None:
    """Write it, in place of an older one; its owner's alone, since it names images."""
    write_text(joint_record(run), to_json(report) + "\n", private=True)


def run_of_file(model: Path, sha256: str) -> Run | None:
    """The finished run among whose exported files `model` is; None where it is in none's."""
    run = Run(model.resolve().parent.parent)
    is_in_run = model.resolve().parent == run.models.resolve() and run.is_finished
    return run if is_in_run and sha256 in run.exported_hashes() else None
