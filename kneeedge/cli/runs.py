"""`kneeedge runs`: what was trained, and two runs beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.console import Json, Quiet, show
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.runs.folder import RUNS


def runs(
    named: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="One to show, or two to compare; all by default."),
    ] = None,
    folder: Annotated[Path, typer.Option("--runs", help="Where run folders stand.")] = RUNS,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """What was trained, with its figures, files and faults; or two runs, paired on their test."""
    from kneeedge.report.runs import comparison_text, runs_text
    from kneeedge.runs.compare import compare_runs
    from kneeedge.runs.overview import list_runs, summarise

    if not named:
        summaries = list_runs(folder)
        show(runs_text(summaries), stamped("runs", summaries), json)
    elif len(named) == 1:
        summaries = (summarise(named[0]),)
        show(runs_text(summaries), stamped("runs", summaries), json)
    elif len(named) == 2:
        comparison = compare_runs(*named)
        show(comparison_text(comparison), stamped("runs-compare", comparison), json)
        if comparison.reason:
            raise typer.Exit(DONE_WITH_FAULTS)
    else:
        raise ConfigError(f"{len(named)} runs are named", "name two to compare")
