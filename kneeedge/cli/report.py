"""`kneeedge report`: all of a run, or what moved between two, as one page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kneeedge.cli.checks import new_file
from kneeedge.cli.console import Command, Json, Quiet, show
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import PAGE, check_output

BESIDE = "the run's report.html"
"what --html without a file stands for"


def page_place(path: Path) -> Path:
    """The page to write; raises as `new_file` where it could not be written after the work."""
    return path if path == Path(BESIDE) else new_file(path) or path


class ReportCommand(Command):
    """Takes `--html` without a file too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, with a place behind an `--html` that has none."""
        placed: list[str] = []
        for i, argument in enumerate(args):
            placed.append(argument)
            following = args[i + 1 : i + 2]
            if argument == "--html" and (not following or following[0].startswith("-")):
                placed.append(BESIDE)
        return super().parse_args(ctx, placed)


def report(
    named: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="The run folder, or an older one and a newer one."),
    ],
    html: Annotated[
        Path,
        typer.Option(callback=page_place, help="The page to write; of two runs, in the newer one."),
    ] = Path(BESIDE),
    with_images: Annotated[
        bool,
        typer.Option(
            "--with-images",
            help="Also samples, and wrong answers with class maps: pictures of patients.",
        ),
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """One page for a run: data, curves, figures with intervals, wrong answers, files, speed, card.
    For two runs: what was changed, by which protocol, and what moved.
    """
    if len(named) > 2:
        raise ConfigError(f"{len(named)} runs are named", "name one, or two to compare")
    if len(named) == 2 and with_images:
        raise ConfigError("--with-images is for the page of one run", "leave it out")
    if len(named) == 1:
        report_run(named[0], html, with_images, json)
    else:
        report_change(named[0], named[1], html, json)


def report_run(folder: Path, html: Path, with_images: bool, json: Path | None) -> None:
    """Write the page of a run."""
    from kneeedge.report.run_facts import read_run
    from kneeedge.report.run_page import run_page
    from kneeedge.report.runs import runs_text
    from kneeedge.runs.overview import summarise

    facts = read_run(folder)
    place = facts.run.page if html == Path(BESIDE) else html
    check_output(place, PAGE)
    write_page(place, run_page(facts, with_images), private=with_images)
    summaries = (summarise(folder),)
    show(runs_text(summaries), stamped("runs", summaries), json, (place,))


def report_change(old: Path, new: Path, html: Path, json: Path | None) -> None:
    """Write the page of what moved between two runs."""
    from kneeedge.report.change_page import change_page
    from kneeedge.report.run_facts import read_run
    from kneeedge.report.runs import comparison_text
    from kneeedge.runs.compare import compare_runs

    before, after = read_run(old), read_run(new)
    beside = after.run.page.with_name(f"change-from-{before.name}.html")
    place = beside if html == Path(BESIDE) else html
    check_output(place, PAGE)
    comparison = compare_runs(old, new)
    write_page(place, change_page(before, after, comparison))
    show(comparison_text(comparison), stamped("runs-compare", comparison), json, (place,))
    if comparison.reason:
        raise typer.Exit(DONE_WITH_FAULTS)


def write_page(path: Path, page: str, private: bool = False) -> None:
    """Write a page; a byte of a file's name that is no UTF-8 is written as its escape."""
    write_text(path, page, errors="backslashreplace", private=private)
