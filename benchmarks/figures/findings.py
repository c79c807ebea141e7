"""Tables of what a model answers on real knees, and of what copies are worth."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.figures.markdown import NONE, accuracy_change, signed, span, table
from benchmarks.figures.results import read_result, value
from benchmarks.figures.slim import OfSeeds, slim_files, slim_originals

FULL, NARROW = "int8", "int8 of the narrower one"
EMULATIONS = {"emulation-full": FULL, "emulation-slim6": NARROW}
PAGES = {"web-full": FULL, "web-slim6": NARROW}
"results of the page in a browser, and the files that they are of"


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


def emulation() -> str:
    """Flips among golden inputs and the largest change of a logit, by emulated CPU and target."""
    rows: dict[str, list[str]] = {}
    targets = []
    for report in read_result("emulation"):
        golden = report["answers"]
        targets.append(golden["int8_target"])
        change = f"{golden['max_change_from_file']:.1g}"
        cell = f"{len(golden['flips'])} of {golden['n']}, {change}"
        rows.setdefault(report["emulated"], []).append(cell)
    heads = [f"`{target}`" for target in dict.fromkeys(targets)]
    return table(("CPU", *heads), [[f"`{cpu}`", *cells] for cpu, cells in rows.items()])


def devices() -> str:
    """Real knees answered elsewhere, against the exporting machine's answers: flips and changes."""
    heads = ("file", "where", "images", "flips", "largest change of the probability", "ms an image")
    rows = []
    for name, file in EMULATIONS.items():
        (report,) = read_result(name)
        pairing = report["answers"]["images"]["pairing"]
        rows.append(
            [
                file,
                f"`{report['emulated']}`, emulated",
                str(pairing["n"]),
                str(len(pairing["flips"])),
                f"{pairing['changes']['max_probability']:.1g}",
                NONE,
            ]
        )
    for name, file in PAGES.items():
        page = read_result(name)
        threads = "one thread" if page["threads"] == 1 else f"{page['threads']} threads"
        rows.append(
            [
                file,
                f"the page in Chromium {page['browser'].partition('.')[0]}, wasm, {threads}",
                str(page["n"]),
                str(page["n_flips"]),
                f"{page['largest_change_of_the_probability']:.1g}",
                f"{page['ms_an_image']:,}",
            ]
        )
    return table(heads, rows, left=2)


def results() -> str:
    """The rows of the README, each with the page that has more."""
    rows = {
        "[accuracy](benchmarks/README.md), PyTorch": accuracy_line(),
        "[training it](kneeedge/training/README.md#the-network)": training_line(),
        "[lost by int8](export/README.md)": int8_line(),
        "[one image](benchmarks/README.md#kneeedge-beside-its-peers)": speed_line(),
        "[narrower](benchmarks/training.md#how-narrow-a-network-can-be)": slim_line(),
        "[leaky splits](kneeedge/audit/README.md#what-such-copies-are-worth)": leaky_line(),
    }
    return table(("what", "measured"), list(rows.items()), left=2)


def accuracy_line() -> str:
    accuracy = value("peers:rows[name=eager].accuracy")
    figure = f"{accuracy['accuracy']:.3f} {span(accuracy['interval'], 3)}"
    return f"{figure} on {accuracy['n']} test images, AUROC {accuracy['auroc']:.3f}"


def training_line() -> str:
    kinds = ("training-time", "Intel with AMX"), ("training-time-amd", "AMD with VNNI")
    runs = {where: read_result(name)["runs"][-1] for name, where in kinds}
    minutes = ", ".join(f"{run['minutes']:.1f} min on {where}" for where, run in runs.items())
    (n_epochs,) = {run["epochs"] for run in runs.values()}
    return f"{minutes}; its audit, {n_epochs} epochs and scores"


def int8_line() -> str:
    files = {row["name"]: row for row in read_result("peers")["rows"]}
    int8 = files["kneeedge-int8"]
    accuracy = int8["accuracy"]
    change = f"accuracy {accuracy_change(accuracy)} points"
    size = f"{int8['size_mb']:.1f} MB in place of {files['kneeedge-fp32']['size_mb']:.1f}"
    return f"{accuracy['flips']} of {accuracy['n']} answers, {change}; {size}"


def speed_line() -> str:
    speeds = {row["name"]: row["single"]["p50_ms"] for row in read_result("peers")["rows"]}
    ours = f"int8 {speeds['kneeedge-int8']:.1f} ms, PyTorch {speeds['eager']:.1f}"
    return f"{ours}; OpenVINO on the same int8 file {speeds['openvino-kneeedge']:.1f}"


def slim_line() -> str:
    """The fastest of the speeds that were asked for."""
    eager, int8 = slim_originals()
    _, files = max(slim_files().items())
    seeds = OfSeeds(files)
    as_fast, as_eager = seeds.times_as_fast(int8), seeds.times_as_fast(eager)
    speed = f"{as_fast:.1f}× as fast in int8, {as_eager:.0f}× PyTorch"
    accuracy = f"test accuracy {seeds.change} points over {len(files)} seeds"
    return f"{speed}; {accuracy}; gate: {seeds.passed}"


def leaky_line() -> str:
    runs = [run for run in read_result("leakage")["results"] if run["protocol"] == "paper"]
    claimed = mean(run["claimed"]["auroc"] for run in runs)
    true = mean(run["true"]["auroc"] for run in runs)
    return f"claim AUROC {claimed:.3f} on a public set where {true:.3f} is true"
