"""What `--json` of each command holds, as kneeedge/cli/JSON.md lists it.

`python -m tests.docs.json_fields` writes the page anew, from the records' fields and the strings
that stand under them.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from kneeedge.audit.finding import Finding
from kneeedge.audit.run import Audit
from kneeedge.bench.comparison import Comparison
from kneeedge.cli.json_format import FORMATS
from kneeedge.inference.answer_rows import DeviceAnswers
from kneeedge.inference.certification import CertifyReport
from kneeedge.inference.emulation import EmulatedReport
from kneeedge.inference.evaluation import ABOUT, EvaluationReport
from kneeedge.inference.joint import JointReport
from kneeedge.inference.metrics import Evaluation
from kneeedge.inference.predictions import Prediction
from kneeedge.inference.summary import FolderResult
from kneeedge.inference.three_answers import ThreeAnswers
from kneeedge.inference.verification import ImagesReport
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.benchmark import BenchResult
from kneeedge.runs.compare import RunComparison
from kneeedge.runs.export_report import ExportReport
from kneeedge.runs.folds import FoldsReport
from kneeedge.runs.overview import RunSummary
from kneeedge.runs.slim_report import SlimReport
from kneeedge.runs.tuning import TuneReport
from kneeedge.runtime.golden import GoldenReport
from kneeedge.runtime.vectors import VectorSet
from kneeedge.statistics.intervals import Estimate, Interval
from kneeedge.stress.record import StressReport
from kneeedge.triton.repository import RepositoryReport
from kneeedge.web.site import SiteReport

PAGE = Path(__file__).parent.parent.parent / "kneeedge/cli/JSON.md"
HEAD = """# What `--json` holds

Each record says in `format` what it is and of which version: `kneeedge-infer/1`. The number is
raised where a field goes, or changes its meaning or its type; a new field does not raise it, so
readers pass over what they do not know. `verify` writes lists of such records. `name[]` is a list,
`name.*` an object by class, split or the like. Text is UTF-8; a byte of a file name that is none is
`\\udc80` to `\\udcff`. NaN and infinities are never written.

This page is written by `python -m tests.docs.json_fields` from the records in the code, and held
against them by a test.
"""
NAMES = {str: "text", int: "integer", float: "number", bool: "true or false"}
Field = tuple[str, str, str]
"path, type and what it is"


def fields_of(kind: Any, path: str = "", what: str = "") -> Iterator[Field]:
    """The fields of what a type is in JSON, all that is in it included."""
    kind, or_null = _without_none(kind)
    origin = get_origin(kind)
    args = get_args(kind)
    if dataclasses.is_dataclass(kind):
        if path:
            yield path, f"object{or_null}", what
        prefix = f"{path}." if path else ""
        for name, hint, text in _members(kind):
            yield from fields_of(hint, prefix + name, text)
    elif origin is tuple:
        yield from fields_of(args[0], f"{path}[]", what)
    elif origin is dict:
        yield from fields_of(args[1], f"{path}.*", what)
    else:
        yield path, NAMES.get(kind, "any") + or_null, what


def _without_none(kind: Any) -> tuple[Any, str]:
    if get_origin(kind) in (Union, types.UnionType):
        (inner,) = [option for option in get_args(kind) if option is not type(None)]
        return inner, " or null"
    return kind, ""


def _members(kind: type) -> Iterator[tuple[str, Any, str]]:
    """Name, type and string of each field; an Evaluation's as it is flattened."""
    hints = get_type_hints(kind)
    strings = _strings(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if kind is Prediction and field.name == "heatmap":  # a picture, for Python alone
            yield "confidence", float | None, "of the answer: the probability of its class"
            continue
        if kind is Evaluation and _without_none(hint)[0] is Estimate:
            hint = float | None
        yield field.name, hint, strings.get(field.name, "")
        if kind is Evaluation and field.name == "log_loss":
            yield "intervals", dict[str, Interval], "of the figures that have one, 95 %"
            yield "interval_methods", dict[str, str], "how each was computed"


def _strings(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for first, second in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
        if isinstance(first, ast.AnnAssign) and is_text:
            found[first.target.id] = " ".join(second.value.value.split())
    return found


def evaluate_fields() -> Iterator[Field]:
    about = [field for field in fields_of(EvaluationReport) if field[0] in ABOUT]
    yield from sorted(about, key=lambda field: ABOUT.index(field[0]))
    yield from fields_of(Evaluation)
    yield from fields_of(Evaluation | None, "answered", "of the images answered; null where all")
    what = "with certified limits; null without"
    yield from fields_of(ThreeAnswers | None, "three_answers", what)
    yield from fields_of(JointReport | None, "joint", "of `--joint`; null without")


def info_fields() -> Iterator[Field]:
    yield "model_sha256", "text", "of the model file"
    yield "spec_format", "integer", "of the spec, which the other fields are"
    yield from (field for field in fields_of(ModelSpec) if field[0] != "format")


def audit_fields() -> Iterator[Field]:
    yield "failed", "true or false", "whether `--strict` fails"
    yield from fields_of(tuple[Finding, ...], "findings", "the worst first")
    yield from fields_of(Audit, "audit", "all that is known of the folder")


def train_fields() -> Iterator[Field]:
    yield "caveat", "text", "only where the figures are too good, and why"
    for split in ("val", "test"):
        yield from fields_of(Evaluation, split, "of the split, where there is one")


def compare_fields() -> Iterator[Field]:
    yield "regressed", "true or false", "whether a row is surely slower"
    yield from fields_of(Comparison, "comparison", "row by row")


def verify_fields() -> Iterator[Field]:
    for path, kind, what in fields_of(GoldenReport):
        yield path, kind, "the golden inputs, and no verdict is fail" if path == "passed" else what
    yield from fields_of(ImagesReport | None, "images", "the answers to `--data`; null without")


def emulate_fields() -> Iterator[Field]:
    for path, kind, what in fields_of(EmulatedReport):
        if not path.startswith("answers."):
            yield path, kind, what
    for path, kind, what in verify_fields():
        yield f"answers.{path}", kind, what


def rows_fields() -> Iterator[Field]:
    yield from (field for field in fields_of(DeviceAnswers) if field[0] != "format")


def bench_fields() -> Iterator[Field]:
    yield from (field for field in fields_of(BenchResult) if field[0] != "format")
    yield "advice", "text", "which model to use, and why"


FIELDS = {
    "audit": audit_fields,
    "train": train_fields,
    "folds": lambda: fields_of(FoldsReport),
    "tune": lambda: fields_of(TuneReport),
    "export": lambda: fields_of(ExportReport),
    "slim": lambda: fields_of(SlimReport),
    "infer": lambda: fields_of(FolderResult),
    "evaluate": evaluate_fields,
    "stress": lambda: fields_of(StressReport),
    "certify": lambda: fields_of(CertifyReport),
    "verify": verify_fields,
    "verify-emulate": emulate_fields,
    "verify-rows": rows_fields,
    "info": info_fields,
    "vectors": lambda: fields_of(VectorSet),
    "bench": bench_fields,
    "compare": compare_fields,
    "runs": lambda: fields_of(RunSummary),
    "runs-compare": lambda: fields_of(RunComparison),
    "web": lambda: fields_of(SiteReport),
    "triton": lambda: fields_of(RepositoryReport),
}
TITLES = {
    "folds": "train --folds K",
    "verify": "verify, each record",
    "verify-emulate": "verify --emulate, each record",
    "verify-rows": "verify --rows FILE.json, each record",
    "vectors": "info --test-vectors FOLDER: vectors.json",
    "compare": "bench --compare",
    "runs": "runs, each record",
    "runs-compare": "runs RUN RUN",
}


def page() -> str:
    parts = [HEAD]
    for name, version in FORMATS.items():
        rows = [("format", "text", f"kneeedge-{name}/{version}"), *FIELDS[name]()]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
        block = "\n".join(lines)
        parts.append(f"## {TITLES.get(name, name)}\n\n```text\n{block}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
