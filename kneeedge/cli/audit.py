"""`kneeedge audit`: what is wrong with a data folder, before anything is trained on it."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneeedge.cli.checks import new_file
from kneeedge.cli.console import GreyBits, Json, Quiet, RequireSignature, require_train, show
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError, MissingExtraError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DOCUMENT, GROUPS, LABELS, PAGE, check_outputs
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.audit.probe import Extractor
    from kneeedge.audit.run import Audit
    from kneeedge.inference.predictions import Prediction
    from kneeedge.inference.predictor import Predictor

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
    joint: Annotated[
        bool,
        typer.Option(
            "--joint", help="Ask what pictures without their joint tell; needs the extra train."
        ),
    ] = False,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Search for labels that are probably wrong; needs the extra train."
        ),
    ] = False,
    write_labels: Annotated[
        Path | None,
        typer.Option(
            callback=new_file,
            help="Write path,label,…: doubtful labels, to be looked at (`train --drop-labels`).",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="Of the frozen VGG19 for --joint and --labels, as of `train`."),
    ] = "imagenet",
    model: Annotated[
        Path | None,
        typer.Option(help="The .onnx file whose class maps stand beside the doubtful labels."),
    ] = None,
    require_signature: RequireSignature = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 3 on a leak, a label conflict or an unreadable file."),
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """What is wrong with a data set: copies, label conflicts, leaks between splits, shortcuts to
    the label, and what a look at the pixels finds.
    """
    require_audit()
    check_looks(joint, labels, write_labels, model, html)
    inputs = [path for path in (data, patients, model) if path]
    outputs = [(html, PAGE), (write_groups, GROUPS), (write_labels, LABELS), (json, DOCUMENT)]
    check_outputs(outputs, inputs)
    from kneeedge.audit.closer import look_closer
    from kneeedge.audit.findings import failed, list_findings
    from kneeedge.audit.labels import write_suspects
    from kneeedge.audit.run import audit as run_audit
    from kneeedge.data import groups
    from kneeedge.report.audit import audit_text
    from kneeedge.report.audit_page import audit_page

    progress = Progress(quiet)
    extract = frozen_features(weights, progress) if joint or labels else None
    predictor = open_predictor(model, require_signature) if model else None
    result = run_audit(data, group_regex, patients, progress, grey_bits or 0)
    if extract:
        result = look_closer(result, extract, joint, labels, progress)
    findings = list_findings(result)
    if write_groups:
        groups.write_groups(result.copies.groups, write_groups)
    if html:
        answers = suspect_answers(result, predictor) if predictor else {}
        page = audit_page(result, findings, answers)
        write_text(html, page, errors="backslashreplace", private=True)
    if write_labels and result.labels:
        write_suspects(result.labels, write_labels)
    record = {"failed": failed(findings), "findings": findings, "audit": result}
    options = f" --groups {write_groups}" if write_groups else ""
    then = f"kneeedge train {data}{options}"
    if failed(findings):
        then = "mend what is found, and run the audit again"
    text = audit_text(result, findings)
    show(text, stamped("audit", record), json, (html, write_groups, write_labels), then)
    if strict and failed(findings):
        raise typer.Exit(DONE_WITH_FAULTS)


def require_audit() -> None:
    """Raise MissingExtraError where the [audit] extra is not installed."""
    for module in AUDIT_MODULES:
        if find_spec(module) is None:
            raise MissingExtraError("`kneeedge audit`", module, "pip install 'kneeedge[audit]'")


def check_looks(
    joint: bool, labels: bool, write_labels: Path | None, model: Path | None, html: Path | None
) -> None:
    """Raise ConfigError for options that go with another one, which is not given."""
    if write_labels and not labels:
        raise ConfigError("--write-labels writes what --labels finds", "add --labels")
    if model and not (labels and html):
        problem = "--model shows its class maps beside the labels of --labels, on the page"
        raise ConfigError(problem, "add --labels --html FILE; `kneeedge evaluate` tests a model")
    if joint or labels:
        require_train("audit --joint")


def frozen_features(weights: str, progress: Progress) -> "Extractor":
    """What turns pictures into features for the probes."""
    from kneeedge.training.frozen import FrozenFeatures

    return FrozenFeatures(weights, progress)


def open_predictor(model: Path, public_key: Path | None) -> "Predictor":
    """The model, whose class maps are wanted of refused images too."""
    from kneeedge.inference.predictor import Predictor
    from kneeedge.model.file import open_model

    return Predictor(open_model(model, public_key), answer_all=True)


def suspect_answers(result: "Audit", predictor: "Predictor") -> dict[str, "Prediction"]:
    """The model's answers, with class maps, to the images that the page shows, by name."""
    from kneeedge.report.audit_closer import N_SUSPECTS

    suspects = result.labels.suspects[:N_SUSPECTS] if result.labels else ()
    paths = [result.root / suspect.name for suspect in suspects]
    answers = predictor.predict(paths, heatmap=True)
    return {suspect.name: answer for suspect, answer in zip(suspects, answers, strict=True)}
