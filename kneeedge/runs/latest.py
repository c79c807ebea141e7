"""The link `latest` beside the run folders: which run finished last."""

from pathlib import Path

from kneeedge.errors import NotFoundError, OutputExistsError
from kneeedge.runs.folder import RUNS, Run

LATEST = "latest"


def latest_run(runs: Path = RUNS) -> Path:
    """The link to the run that finished last; raises NotFoundError where it leads nowhere."""
    if not (runs / LATEST).exists():
        remedy = "train one with `kneeedge train DATA`, or name a run folder"
        raise NotFoundError(f"{runs / LATEST}: no finished run", remedy)
    return runs / LATEST


def check_latest(folder: Path) -> None:
    """Raise OutputExistsError where something else than a link is `latest` beside a run folder."""
    link = folder.parent / LATEST
    if link.exists() and not link.is_symlink():
        raise OutputExistsError(link, "it is no link; move it away")


def link_latest(run: Run) -> None:
    """Let `latest`, beside the run folder, lead to it; raises what `check_latest` does."""
    check_latest(run.folder)
    # Another training may end at the same moment.
    link = run.folder.parent / f".{LATEST}.{run.name}"
    link.unlink(missing_ok=True)
    link.symlink_to(run.folder.name, target_is_directory=True)
    link.replace(link.with_name(LATEST))
