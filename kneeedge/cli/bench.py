"""`kneeedge bench`: speed beside accuracy, and two such results beside each other."""

from json import loads
from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_file
from kneeedge.cli.console import (
    CudaGraph,
    GpuMemory,
    GroupRegex,
    Json,
    Providers,
    Quiet,
    RequireSignature,
    Seed,
    Tf32,
    Threads,
    show,
)
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import BENCH_ROWS, DOCUMENT, FIGURE, SHEET, check_outputs
from kneeedge.system.progress import Progress

COMPARE = "Comparing two results"


def bench(
    models: Annotated[
        list[Path] | None, typer.Argument(help="The .onnx files; the last run's by default.")
    ] = None,
    provider: Providers = "auto",
    data: Annotated[
        Path | None, typer.Option(help="Labelled images: accuracy and flips beside speed.")
    ] = None,
    group_regex: GroupRegex = None,
    run: Annotated[
        Path | None, typer.Option(help="The run whose PyTorch original is the first row.")
    ] = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-size", help="Batch sizes of Offline, separated by commas.")
    ] = "8,32",
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, max=1e5, help="Time for each scenario of each model, over all rounds."
        ),
    ] = 12.0,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Turns of each model; 6 give an interval.")
    ] = 6,
    timeout: Annotated[
        float,
        typer.Option(min=1.0, max=1e6, help="Seconds after which a silent model process is ended."),
    ] = 600.0,
    require_signature: RequireSignature = None,
    threads: Threads = None,
    seed: Seed = 0,
    gpu_memory_gb: GpuMemory = None,
    tf32: Tf32 = False,
    cuda_graph: CudaGraph = True,
    json: Json = None,
    csv: Annotated[
        Path | None, typer.Option(callback=new_file, help="Write the rows as CSV.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(callback=new_file, help="Write the report as Markdown.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            callback=new_file,
            help="Draw accuracy against latency, as .png or .svg; needs --data.",
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="OLD.json NEW.json: measure nothing, hold two results against each other.",
            rich_help_panel=COMPARE,
        ),
    ] = None,
    max_slowdown: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Exit 3 where a row is surely slower than this ratio.",
            rich_help_panel=COMPARE,
        ),
    ] = 1.10,
    quiet: Quiet = False,
) -> None:
    """Speed beside accuracy: the PyTorch original and each variant,
    in processes that take turns.
    """
    outputs = [(csv, BENCH_ROWS), (markdown, SHEET), (figure, FIGURE), (json, DOCUMENT)]
    check_outputs(outputs, [*(models or ()), *(compare or ())])
    if compare is not None:
        if models or run or data or group_regex or csv or markdown or figure:
            remedy = "leave out what is to be measured and how it is shown"
            raise ConfigError("--compare measures nothing", remedy)
        compare_files(*compare, max_slowdown, json)
        return
    from kneeedge.bench.figure import check_figure, draw_figure
    from kneeedge.bench.page import bench_csv, bench_json, bench_markdown, bench_table
    from kneeedge.bench.run import BenchRequest
    from kneeedge.bench.run import bench as run_bench
    from kneeedge.report.card import add_speed
    from kneeedge.runs.choose import bench_subjects
    from kneeedge.runs.folder import Run
    from kneeedge.runtime.cuda import GpuOptions

    if figure:
        check_figure(figure, has_accuracy=data is not None)
    progress = Progress(quiet)
    files, original = bench_subjects(tuple(models or ()), run)
    if original and require_signature:
        progress("PyTorch's original has no row: it carries no signature")
        original = None
    request = BenchRequest(
        models=files,
        run=original,
        provider=provider,
        threads=threads,
        batch_sizes=parse_sizes(batch_sizes),
        seconds=seconds,
        n_rounds=rounds,
        seed=seed,
        timeout=timeout,
        data=str(data) if data else None,
        group_regex=group_regex,
        gpu=GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb, cuda_graph=cuda_graph),
        public_key=str(require_signature) if require_signature else None,
    )
    result = run_bench(request, progress)
    if csv:
        write_text(csv, bench_csv(result), errors="surrogateescape")
    if markdown:
        write_text(markdown, bench_markdown(result), errors="backslashreplace")
    if figure:
        draw_figure(result, figure)
    document = bench_json(result)
    kept = add_speed(Run(Path(original)), result, document) if original else ""
    then = f"kneeedge bench --compare OLD.json {json}" if json else "--json FILE keeps the figures"
    wrote = (csv, markdown, figure)
    show(bench_table(result), stamped("bench", loads(document)), json, wrote, then)
    if kept:
        progress(kept)


def compare_files(old: Path, new: Path, max_slowdown: float, json: Path | None) -> None:
    """Print how the second result differs from the first.

    Exits with DONE_WITH_FAULTS on a regression, and where a row has too few windows to show one.
    """
    from kneeedge.bench.comparison import changes_table, compare_results
    from kneeedge.runs.benchmark import read_benchmark

    comparison = compare_results(read_benchmark(old), read_benchmark(new), max_slowdown)
    record = {"regressed": comparison.regressed, "comparison": comparison}
    show(changes_table(comparison), stamped("compare", record), json)
    if comparison.regressed or comparison.n_unknown:
        raise typer.Exit(DONE_WITH_FAULTS)


def parse_sizes(text: str) -> tuple[int, ...]:
    """8,32 → (8, 32); raises ConfigError where one is no positive number."""
    remedy = "give for example 8,32"
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--batch-size {text} is no list of numbers", remedy) from error
    if min(sizes) < 1:
        raise ConfigError(f"--batch-size {text} has a size below 1", remedy)
    return sizes
