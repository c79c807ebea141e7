"""Tables of speed, size and cost."""

from collections.abc import Sequence
from typing import Any

from benchmarks.figures.markdown import NONE, span, table
from benchmarks.figures.results import read_result, value
from kneeedge.bench.windows import STEADY


def peers() -> str:
    """Every subject of the study beside PyTorch eager."""
    heads = (
        "what", "one image, ms", "× eager", "img/s (batch)", "RAM MB, 1 / 32", "MB", "accuracy",
        "flips", "of ceiling",
    )  # fmt: skip
    return table(heads, [peer_cells(row) for row in read_result("peers")["rows"]])


def peer_cells(row: dict[str, Any]) -> list[str]:
    """One subject; ~ where a round was disturbed."""
    single = row["single"]
    last = row["offline"][-1]
    best = max([single, *row["offline"]], key=lambda runs: runs["images_per_second"])
    low = min(row["times_eager_rounds"])
    high = max(row["times_eager_rounds"])
    flips = row["accuracy"]["flips"]
    return [
        row["title"],
        f"{single['p50_ms']:.1f}" + (" ~" if single["spread"] > STEADY else ""),
        f"{row['times_eager']:.2f} ({low:.2f}–{high:.2f})",
        f"{best['images_per_second']:.2f} ({best['batch_size']})",
        f"{single['peak_memory_mb']:,.0f} / {last['peak_memory_mb']:,.0f}",
        f"{row['size_mb']:.1f}",
        f"{row['accuracy']['accuracy']:.3f}",
        NONE if flips is None else str(flips),
        f"{row['share_of_ceiling']:.0%} {row['arithmetic']}",
    ]


def bench() -> str:
    """What `kneeedge bench` said of one run's files."""
    heads = (
        "file", "one image, p50 ms", "p90 ms [95 %]", "8 images, p50 ms", "img/s in batches of 32",
        "cold start, s", "RAM MB, 1 / 32", "of ceiling, 1 / 32",
    )  # fmt: skip
    results = read_result("bench")["results"]
    names = list(dict.fromkeys(row["precision"] for row in results))
    return table(heads, [bench_cells(name, results) for name in names])


def bench_cells(precision: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """One file in its three scenarios."""
    single, stream, offline = (row for row in results if row["precision"] == precision)
    latency = single["latency_ms"]
    return [
        precision,
        f"{latency['p50']:.1f}",
        f"{latency['p90']:.1f} {span(latency['intervals']['p90'], 1)}",
        f"{stream['latency_ms']['p50']:,.0f}",
        f"{offline['images_per_second']:.2f}",
        f"{single['cold_start_ms'] / 1e3:.2f}",
        f"{single['peak_memory_mb']:,.0f} / {offline['peak_memory_mb']:,.0f}",
        f"{single['ceiling_share']:.0%} / {offline['ceiling_share']:.0%}",
    ]


def growth() -> str:
    """Folders of three sizes."""
    heads = (
        "files", "CPU s", "exponent", "peak above the loaded model, MB",
        "of it the list of names, MB",
    )  # fmt: skip
    rows = [
        [
            f"{row['n']:,}",
            f"{row['cpu_seconds']:.1f}",
            NONE if row["exponent"] is None else f"{row['exponent']:.3f}",
            f"{row['peak_above_loaded_mb']:.1f}",
            f"{row['listing_mb']:.1f}",
        ]
        for row in read_result("growth")["growth"]
    ]
    return table(heads, rows, left=0)


def heatmaps() -> str:
    """What heat maps cost, before and now."""
    heads = (
        "kneeedge", "side, pixels", "n", "ms of a core a map", "KB a map",
        "img/s without maps", "img/s with maps", "ratio",
    )  # fmt: skip
    rows = [
        [
            row["name"],
            f"{row['side']:,}",
            str(row["n"]),
            f"{row['cpu_ms']:.1f}",
            f"{row['map_kb']:,.0f}",
            f"{row['bare_per_second']:,.0f}",
            f"{row['per_second']:,.1f}",
            NONE if row["ratio"] is None else f"{row['ratio']:.2f}",
        ]
        for row in read_result("heatmaps")["rows"]
    ]
    return table(heads, rows)


def decoders() -> str:
    """Other JPEG decoders beside the one that is used."""
    heads = (
        "decoder", "ms a file", "× kneeedge's", "pixels that differ", "damaged, and answered",
        "of the network, at best",
    )  # fmt: skip
    result = read_result("decoders")
    rows = [
        [
            f"{row['name']} {row['version']}" if row["name"] != "kneeedge" else "**kneeedge**",
            f"{row['ms']:.1f}",
            f"{row['times_ours']:.2f}",
            "none" if row["same"] else "another scale",
            f"{row['damaged_answered']} of {result['n_damaged']}",
            f"{row['ratio']:.3f}",
        ]
        for row in result["rows"]
    ]
    return table(heads, rows)


def int8_search() -> str:
    """What the int8 search costs and chooses, before and now."""
    heads = (
        "run", "kneeedge", "chosen", "recipes", "stopped", "processor s of the recipes", "ratio",
        "the same choice",
    )  # fmt: skip
    rows = [
        [
            row["run"],
            row["version"],
            row["recipe"],
            str(row["n_recipes"]),
            str(row["n_stopped"]),
            f"{row['cpu_seconds']['int8: recipes']:,.0f}",
            NONE if row["search_ratio"] is None else f"{row['search_ratio']:.2f}",
            NONE if row["search_ratio"] is None else "yes" if row["same_choice"] else "**no**",
        ]
        for row in read_result("int8-search")["rows"]
    ]
    return table(heads, rows, left=3)


def export_stages() -> str:
    """Where the processor time of an int8 export of the whole VGG19 goes, before and now."""
    runs = [row for row in read_result("int8-search")["rows"] if row["run"] == "knee-kl"]
    heads = ("stage", *(f"{row['version']}, processor s" for row in runs))
    rows = [
        [stage, *(f"{row['cpu_seconds'][stage]:,.0f}" for row in runs)]
        for stage, seconds in runs[0]["cpu_seconds"].items()
        if seconds
    ]
    return table(heads, rows)


def isolation() -> str:
    """Processes beside threads."""
    heads = ("files", "work", "n", "threads, a second", "processes, a second", "ratio")
    rows = [
        [
            row["kind"],
            row["work"],
            str(row["n"]),
            f"{row['threads_per_second']:,.1f}",
            f"{row['processes_per_second']:,.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in read_result("isolation")["rows"]
    ]
    return table(heads, rows, left=2)


def triton() -> str:
    """A server's images a second by the number of its clients."""
    heads = (
        "copies × threads", "clients", "images a second", "of `infer`'s",
        "one answer, ms: median", "95 % within",
    )  # fmt: skip
    rows = [
        [
            f"{row['instances']} × {row['threads']}",
            str(row["clients"]),
            f"{row['images_per_second']:.1f}",
            f"{row['of_infer']:.2f}",
            f"{row['p50_ms']:,.0f}",
            f"{row['p95_ms']:,.0f}",
        ]
        for row in read_result("triton")["rows"]
    ]
    return table(heads, rows)


def cluster() -> str:
    """Ray with several networks beside one machine's `infer`."""
    heads = ("networks", "s", "of that, start", "images/s over `infer`'s", "without the start")
    rows = [
        [
            str(row["workers"]),
            f"{row['seconds']:.1f}",
            f"{row['start_seconds']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_after_start']:.2f}",
        ]
        for row in read_result("cluster")["speeds"]
    ]
    return table(heads, rows)


def one_image() -> str:
    """The stages of one process that answers one image."""
    result = value("one-image:results[0]")
    rows = [["the whole process", f"{result['whole_process']:.0f}"]]
    rows += [[name, f"{ms:.0f}"] for name, ms in result["stages"].items()]
    return table(("stage", "ms"), rows)


def graph() -> str:
    """Two input channels beside three."""
    heads = (
        "file", "batch", "three channels, ms", "two channels, ms", "ratio by round",
        "half of the rounds",
    )  # fmt: skip
    rows = []
    for name, source in (("int8", "graph"), ("fp32", "graph-fp32")):
        speeds = read_result(source)["speeds"]
        pairs = zip(speeds[::2], speeds[1::2], strict=True)
        rows += [[name, *graph_cells(three, two)] for three, two in pairs]
    return table(heads, rows)


def graph_cells(three: dict[str, Any], two: dict[str, Any]) -> list[str]:
    low, high = two["ratio_quartiles"]
    return [
        str(two["batch_size"]),
        f"{three['ms_per_image']:.1f}",
        f"{two['ms_per_image']:.1f}",
        f"{two['ratio']:.3f}",
        f"{low:.3f}–{high:.3f}",
    ]


def train_cost() -> str:
    """What a view costs in training, on CPUs of two kinds."""
    first, other = (
        {row["what"]: f"{row['seconds_a_view']:.3f}" for row in read_result(name)["results"]}
        for name in ("train-cost", "train-cost-avx2")
    )
    rows = [[what, seconds, other.get(what, NONE)] for what, seconds in first.items()]
    return table(("seconds a view", "with AMX", "AVX2 alone"), rows)


def first_run() -> str:
    """What installing and the demo cost."""
    result = read_result("first-run")
    rows = [
        [f"`pip install 'kneeedge[{install['extras']}]'`", *cost_cells(install)]
        for install in result["installs"]
    ]
    rows.append(["`kneeedge demo`", *cost_cells(result["demo"])])
    return table(("what", "time", "processor time", "disk, MB"), rows)


def cost_cells(cost: dict[str, Any]) -> list[str]:
    return [duration(cost["seconds"]), duration(cost["cpu_seconds"]), f"{cost['mb']:,.0f}"]


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
