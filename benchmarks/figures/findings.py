"""Tables of what a model answers, what copies are worth, and what commands said of real knees."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.figures.markdown import NONE, signed, span, table
from benchmarks.figures.results import read_result, value
from benchmarks.figures.speed import duration, slim_name, slim_rows


def recall() -> str:
    """Copies found of those planted, where pHash or the search missed one in either set."""
    films = {row["kind"]: row for row in read_result("recall-372")["rows"]}
    rows = []
    for knee in read_result("recall")["rows"]:
        film = films[knee["kind"]]
        counts = [(row[name], row["n"]) for row in (knee, film) for name in ("found", "phash")]
        if any(n_found < n for n_found, n in counts):
            rows.append([knee["kind"], *(f"{n_found} of {n}" for n_found, n in counts)])
    return table(("copy", "in knee-kl", "pHash", "in osteoporosis-372", "pHash"), rows)


def leakage() -> str:
    """What each protocol claims, and what is true of the same models: means over the seeds."""
    heads = (
        "protocol", "test images known from training", "figure", "claimed", "true", "too good by",
    )  # fmt: skip
    rows = []
    for protocol, title in (("paper", "paper (**leaky**)"), ("grouped", "honest: by group")):
        runs = [run for run in read_result("leakage")["results"] if run["protocol"] == protocol]
        known = f"{mean(run['n_known'] for run in runs):.0f} of {runs[0]['claimed']['n']}"
        rows += [
            [title, known, name, *leakage_cells(runs, name.lower())]
            for name in ("AUROC", "accuracy")
        ]
    return table(heads, rows, left=3)


def leakage_cells(runs: Sequence[dict[str, Any]], name: str) -> list[str]:
    """Means over the seeds, and the range of the difference."""
    claimed = [run["claimed"][name] for run in runs]
    true = [run["true"][name] for run in runs]
    excess = [a - b for a, b in zip(claimed, true, strict=True)]
    return [
        f"{mean(claimed):.3f}",
        f"{mean(true):.3f} on {runs[0]['true']['n']}",
        f"{signed(mean(excess), 3)} ({signed(min(excess), 3)} to {signed(max(excess), 3)})",
    ]


def refusals() -> str:
    """What the model refuses to answer; bold: images that it should refuse and mostly does not."""
    rows = []
    for row in read_result("refusals")["results"]:
        passed = not row["genuine"] and row["share"] < 0.5
        kind = f"**{row['kind']}**" if passed else row["kind"]
        share = f"{row['share']:.1%} {span(row, 1, factor=100)}"
        rows.append([kind, str(row["n"]), str(row["refused"]), share])
    return table(("kind", "n", "refused", "share [95 %]"), rows)


def chain_step(name: str) -> dict[str, Any]:
    """One command of the chain, with its `seconds` and what it `said`."""
    return value(f"chain:steps[step={name}]")


def chain() -> str:
    """Every command of the chain, its time, and the end of what it said."""
    lines = {
        "audit": audit_line,
        "train": train_line,
        "export": export_line,
        "infer": infer_line,
        "evaluate": evaluate_line,
        "verify": verify_line,
    }
    rows = []
    for name, line in lines.items():
        step = chain_step(name)
        rows.append([f"`{name}`", duration(step["seconds"]), line(step["said"])])
    return table(("command", "time", "what it says"), rows, left=3)


def audit_line(said: dict[str, Any]) -> str:
    kinds = [f"{finding['severity']} {finding['kind']}" for finding in said["findings"]]
    faults = "faults" if said["failed"] else "no faults"
    return f"{faults}; {', '.join(kinds) or 'nothing to note'}"


def train_line(said: dict[str, Any]) -> str:
    return f"val: {scores(said['val'])}"


def evaluate_line(said: dict[str, Any]) -> str:
    return f"test: {scores(said)}, ECE {said['ece']:.4f}; {said['n']} images"


def scores(evaluation: dict[str, Any]) -> str:
    """Accuracy, sensitivity, specificity and AUROC with their intervals."""
    names = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity"}
    names["auroc"] = "AUROC"
    return ", ".join(
        f"{title} {evaluation[name]:.3f} {span(evaluation['intervals'][name], 3)}"
        for name, title in names.items()
    )


def export_line(said: dict[str, Any]) -> str:
    verdicts = [
        f"{file['report']['precision']} {file['report']['verdict']}" for file in said["files"]
    ]
    return ", ".join(verdicts)


def infer_line(said: dict[str, Any]) -> str:
    summary = said["summary"]
    counts = ", ".join(f"{n} {name}" for name, n in summary["counts"].items())
    return (
        f"{summary['n']} images: {counts}; {summary['n_abstained']} unlike the training images; "
        f"{summary['n_errors']} errors; {summary['images_per_second']:.1f} images/s"
    )


def verify_line(said: Sequence[dict[str, Any]]) -> str:
    report = said[0]
    verdict = "pass" if report["passed"] else "fail"
    return (
        f"{verdict}: {report['n']} golden inputs, largest logit change "
        f"{report['max_change_from_file']:.2g} to the exporting machine"
    )


def export() -> str:
    """The gate's evidence on each file."""
    heads = (
        "file", "MB", "verdict", "flips", "largest logit change", "accuracy change [95 %], points",
        "ECE change", "layers in float",
    )  # fmt: skip
    return table(heads, [export_cells(file) for file in chain_step("export")["said"]["files"]])


def export_cells(file: dict[str, Any]) -> list[str]:
    """One file beside PyTorch."""
    report = file["report"]
    change = report["changes"]["accuracy"]
    low = signed(100 * change["interval"]["low"], 1)
    high = signed(100 * change["interval"]["high"], 1)
    ranges = file["calibration"] or file["half_range"]
    float_layers = ranges["float_layers"] if ranges else []
    return [
        report["precision"],
        f"{file['size_mb']:.1f}",
        report["verdict"],
        f"{flips_of(report)} of {report['n']}",
        f"{report['max_abs_logit_change']:.2g}",
        f"{signed(100 * change['delta'], 1)} [{low}, {high}]",
        signed(report["ece_change"], 5),
        ", ".join(float_layers) or NONE,
    ]


def flips_of(report: dict[str, Any]) -> int:
    """How many answers changed: the number of cases, or their list."""
    flips = report["flips"]
    return flips if isinstance(flips, int) else len(flips)


def train() -> str:
    """The held-out figures of the run, with the calibration error before and after."""
    rows = []
    for split, evaluation in chain_step("train")["said"].items():
        if split not in ("val", "test"):
            continue
        before = (evaluation["uncalibrated"] or evaluation)["ece"]
        rows.append([
            split,
            str(evaluation["n"]),
            *(
                f"{evaluation[name]:.3f} {span(evaluation['intervals'][name], 3)}"
                for name in ("accuracy", "sensitivity", "specificity", "auroc")
            ),
            f"{before:.4f} → {evaluation['ece']:.4f}",
        ])  # fmt: skip
    heads = ("split", "n", "accuracy", "sensitivity", "specificity", "AUROC", "ECE")
    return table(heads, rows)


def results() -> str:
    """The five rows of the README, each with the page that has more."""
    rows = {
        "[accuracy](benchmarks/README.md), PyTorch": accuracy_line(),
        "[lost by int8](export/README.md)": int8_line(),
        "[one image](benchmarks/README.md#kneeedge-beside-its-peers)": speed_line(),
        "[narrower](benchmarks/README.md#how-narrow-a-network-can-be)": slim_line(),
        "[leaky splits](kneeedge/audit/README.md#what-such-copies-are-worth)": leaky_line(),
    }
    return table(("what", "measured"), list(rows.items()), left=2)


def accuracy_line() -> str:
    accuracy = value("peers:rows[name=eager].accuracy")
    figure = f"{accuracy['accuracy']:.3f} {span(accuracy['interval'], 3)}"
    return f"{figure} on {accuracy['n']} test images, AUROC {accuracy['auroc']:.3f}"


def int8_line() -> str:
    files = {row["name"]: row for row in read_result("peers")["rows"]}
    int8 = files["kneeedge-int8"]
    accuracy = int8["accuracy"]
    low = signed(100 * accuracy["delta_interval"]["low"], 1)
    high = signed(100 * accuracy["delta_interval"]["high"], 1)
    change = f"accuracy {signed(100 * accuracy['delta_accuracy'], 1)} [{low}, {high}] points"
    size = f"{int8['size_mb']:.1f} MB in place of {files['kneeedge-fp32']['size_mb']:.1f}"
    return f"{accuracy['flips']} of {accuracy['n']} answers, {change}; {size}"


def speed_line() -> str:
    speeds = {row["name"]: row["single"]["p50_ms"] for row in read_result("peers")["rows"]}
    ours = f"int8 {speeds['kneeedge-int8']:.1f} ms, PyTorch {speeds['eager']:.1f}"
    return f"{ours}; OpenVINO on the same int8 file {speeds['openvino-kneeedge']:.1f}"


def slim_line() -> str:
    narrow = slim_rows()[2]
    change = signed(100 * narrow["accuracy"]["delta_accuracy"], 1)
    verdict = narrow["accuracy"]["verdict"]
    return f"{slim_name(narrow)} as fast in int8, test accuracy {change} points; gate: {verdict}"


def leaky_line() -> str:
    runs = [run for run in read_result("leakage")["results"] if run["protocol"] == "paper"]
    claimed = mean(run["claimed"]["auroc"] for run in runs)
    true = mean(run["true"]["auroc"] for run in runs)
    return f"claim AUROC {claimed:.3f} on a public set where {true:.3f} is true"
