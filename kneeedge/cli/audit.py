"""`kneeedge audit`: what is wrong with a data folder, before anything is trained on it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_file
from kneeedge.cli.console import GreyBits, Json, Quiet, show
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.errors import MissingExtraError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DOCUMENT, GROUPS, PAGE, check_outputs
from kneeedge.system.progress import Progress

AUDIT_MODULES = ("scipy", "sklearn")


def audit(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of CLASS/… or {train,val,test}/CLASS/…, or of images; or CSV path,label."
        ),
    ],
    group_regex: Annotated[
        str | None, typer.Option(help="Finds the patient in a path below CLASS.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV file path,patient; goes before --group-regex.")
    ] = None,
    grey_bits: GreyBits = None,
    html: Annotated[
        Path | None,
        typer.Option(
            callback=new_file,
            help="Write a page with the copies side by side. It holds pictures of the patients.",
        ),
    ] = None,
    write_groups: Annotated[
        Path | None,
        typer.Option(
            callback=new_file,
            help="Write path,group: images for one side of a split (`train --groups`).",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 3 on a leak, a label conflict or an unreadable file."),
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """What is wrong with a data set: copies, label conflicts, leaks between splits, shortcuts to
    the label.
    """
    require_audit()
    inputs = [path for path in (data, patients) if path]
    check_outputs([(html, PAGE), (write_groups, GROUPS), (json, DOCUMENT)], inputs)
    from kneeedge.audit.findings import failed, list_findings
    from kneeedge.audit.run import audit as run_audit
    from kneeedge.data import groups
    from kneeedge.report.audit import audit_text
    from kneeedge.report.audit_page import audit_page

    result = run_audit(data, group_regex, patients, Progress(quiet), grey_bits or 0)
    findings = list_findings(result)
    if write_groups:
        groups.write_groups(result.copies.groups, write_groups)
    if html:
        write_text(html, audit_page(result, findings), errors="backslashreplace", private=True)
    record = {"failed": failed(findings), "findings": findings, "audit": result}
    options = f" --groups {write_groups}" if write_groups else ""
    then = f"kneeedge train {data}{options}"
    if failed(findings):
        then = "mend what is found, and run the audit again"
    text = audit_text(result, findings)
    show(text, stamped("audit", record), json, (html, write_groups), then)
    if strict and failed(findings):
        raise typer.Exit(DONE_WITH_FAULTS)


def require_audit() -> None:
    """Raise MissingExtraError where the [audit] extra is not installed."""
    for module in AUDIT_MODULES:
        if find_spec(module) is None:
            raise MissingExtraError("`kneeedge audit`", module, "pip install 'kneeedge[audit]'")
