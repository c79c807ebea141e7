"""Every command of a page is run, in its order, on phantoms in place of the reader's radiographs.

What cannot be run here stands in a short list with the reason.
"""

import re
import shlex
import shutil
import subprocess
import tomllib
from functools import partial
from glob import glob
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from benchmarks.figures import pages
from export.options import ExportOptions
from kneeedge.cli.app import app
from kneeedge.cli.console import RENAMED
from kneeedge.pixels.phantom import write_dataset

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    "README.md",
    "kneeedge/audit/README.md",
    "export/README.md",
    "export/elsewhere.md",
    "SECURITY.md",
    "kneeedge/inference/README.md",
    "kneeedge/statistics/certify.md",
    "kneeedge/inference/drift.md",
    "benchmarks/README.md",
    "benchmarks/audit.md",
    "benchmarks/int8.md",
    "benchmarks/refusals.md",
    "benchmarks/training.md",
    "kneeedge/training/README.md",
    "kneeedge/cli/README.md",
    "kneeedge/cli/JSON.md",
    "kneeedge/node/README.md",
    "kneeedge/web/README.md",
    "kneeedge/cluster/README.md",
    "kneeedge/triton/README.md",
    "kneeedge/stress/README.md",
    "kneeedge/tune/README.md",
)
"in the order in which their commands find what they need"
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
NARROW = (
    "--weights", "none", "--width", "0.07", "--size", "64", "--epochs", "2", "--precision", "32",
)  # fmt: skip
"what makes a training command of a page one of seconds"
REFUSED = {"cuda": 1}
"exit codes of commands that need what a test machine has not"
NOT_RUN = {
    "make demo": "it takes minutes, for commands that are run here; its target is tested",
    "pip install ": "it needs a network; that pyproject.toml has the extras is tested",
    "cd examples/": "it needs Node.js, or ONNX Runtime's header; tests/examples/ runs the programs",
    "apt-get install ": "it changes the machine; tests/tools.py names the packages that tests need",
    "python -m kneeedge.runtime.arm64_root": "it needs a network; tests/runtime/test_emulator.py",
    "kneeedge verify model.onnx --emulate": "minutes, by qemu; tests/inference/test_emulation.py",
    "make gpu": "it needs a network; `.ci/run` runs it, for tests/gpu_wheel",
    "python -m benchmarks.": "it takes long and needs real radiographs; its options are tested",
    "ray ": "it starts what goes on after it; tests/cluster starts such nodes",
    "RAY_AUTH_MODE=token ray ": "likewise",
    "kneeedge infer s3://": "it needs a bucket; tests/cluster/test_ray.py brings one",
    "kneeedge infer radiographs/test --model model.onnx --engine ray": "tests/cluster runs it",
    "kneeedge web model.onnx": "it fetches packages by npm; tests/web writes and opens a site",
    "kneeedge infer --dicomweb": "it needs an archive; tests/node/test_studies.py asks Orthanc",
    "kneeedge serve --dicom": "it serves until it is stopped; tests/node/ has it do so",
    "kneeedge certify": "phantoms are too few; tests/inference/test_certification.py",
    "kneeedge evaluate certified.onnx": "likewise",
    "kneeedge train radiographs --certify": "likewise; tests/training/test_certify.py",
    "python -m http.server": "it serves until it is stopped",
    "kneeedge export runs/latest --triton": "a second export; tests/triton/test_repository.py",
    "kneeedge export --gate-data": "a second export; tests/export/test_gate_data.py",
    "tritonserver ": "it serves until it is stopped; tests/triton runs it",
    "curl ": "it needs a server; tests/triton sends the same request",
    "kneeedge train radiographs --weights imagenet --devices 4": "tests/training/test_devices.py",
    "OMP_NUM_THREADS=": "a measurement; tests/training/test_devices.py trains by two processes",
    "torchrun ": "it starts processes; tests/training/test_devices.py trains by it",
    "kneeedge audit radiographs --joint": "it needs VGG19's weights; tests/cli/test_audit.py",
    "kneeedge tune": "minutes; tests/tune runs and resumes such studies",
    "kneeedge train radiographs --recipe": "it needs a study; tests/tune trains by a recipe",
    "kneeedge bench 'RUN/models": "the files of slim runs; another `bench` is run",
}
"beginnings of commands that are shown and not run here, and why"
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def shown_commands(page: str) -> list[str]:
    """The commands of the console blocks, without prompt and comment."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line for line in lines if not line.startswith("$ ")] == []
    return [shlex.join(shlex.split(line.removeprefix("$ "), comments=True)) for line in lines]


def commands_that_start(beginning: str) -> list[str]:
    return [
        command
        for text in TEXTS.values()
        for command in shown_commands(text)
        if command.startswith(beginning)
    ]


def is_run(command: str) -> bool:
    return not any(command.startswith(beginning) for beginning in NOT_RUN)


def first_shown() -> dict[str, str]:
    """Every command that is run, and the page that shows it first."""
    pages: dict[str, str] = {}
    for name, text in TEXTS.items():
        for command in filter(is_run, shown_commands(text)):
            pages.setdefault(command, name)
    return pages


def shortened(command: list[str]) -> list[str]:
    """The command with what makes it one of seconds."""
    if command[0] == "train":
        weights = command.index("--weights")
        return [*command[:weights], *command[weights + 2 :], *NARROW]
    if command[0] == "bench":
        return [*command, "--seconds", "0.2", "--batch-size", "1,2"]
    if command[0] == "slim":
        # The times of a network this narrow are noise, and no goal is sure to be within reach.
        return ["slim", "--max-latency-ms", "1000", "--epochs", "1", "--tolerance", "0.9"]
    if command[0] == "export":
        return [*command, "--tolerance", "0.9", "--search-minutes", "0"]
    return command


def expanded(command: list[str]) -> list[str]:
    """The command as a shell expands its `*`."""
    names = []
    for word in command:
        names += sorted(glob(word)) if "*" in word else [word]  # noqa: PTH207
    return names


def run(words: list[str]) -> tuple[int, str]:
    """Exit code and output of `kneeedge …` or of another program."""
    if words[0] == "kneeedge":
        result = CliRunner().invoke(app, expanded(shortened(words[1:])))
        return result.exit_code, result.output
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn", "one_cold_start")
def test_every_command_of_the_pages_runs(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # `slim` has no option for what `shortened` says to `export`.
    monkeypatch.setattr("kneeedge.slim.run.ExportOptions", partial(ExportOptions, search_minutes=0))
    write_dataset(tmp_path / "radiographs", {"train": 64, "val": 24, "test": 24}, size=64)
    (tmp_path / "model.onnx").write_bytes(exported["int8"].read_bytes())
    for command, page in first_shown().items():
        words = shlex.split(command)
        expected = next((code for word, code in REFUSED.items() if word in words), 0)
        code, output = run(words)
        assert code == expected, f"{page}: {command}\n{output}"


def test_no_page_is_left_out():
    assert sorted(PAGES) == sorted(pages.PAGES)


def test_the_readme_shows_the_main_commands():
    shown = {shlex.split(command)[1] for command in commands_that_start("kneeedge ")}
    commands = set(typer.main.get_command(app).commands)
    assert commands - shown == {"demo"}, "which `make demo` runs"
    in_readme = " ".join(shown_commands(TEXTS["README.md"]))
    assert all(f"kneeedge {name}" in in_readme for name in ("audit", "train", "export", "infer"))
    assert all(
        f"`{name} " in TEXTS["README.md"] or f"`{name}`" in TEXTS["README.md"] for name in commands
    )


def test_no_indented_block_hides_a_command():
    for name, text in TEXTS.items():
        line = r"^    (?:\$ )?(?:kneeedge|make|pip|python|openssl) .*$"
        hidden = re.findall(line, text, re.MULTILINE)
        assert hidden == [], f"{name}: show it in a console block"


@pytest.mark.parametrize("beginning", NOT_RUN)
def test_a_reason_not_to_run_a_command_is_needed(beginning):
    assert commands_that_start(beginning) != []


def test_the_makefile_has_every_target_that_a_page_names():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^\$ )make ([\w-]+)", "\n".join(TEXTS.values()), re.MULTILINE))
    assert named >= {"demo", "test"}
    assert named <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("command", commands_that_start("pip install "))
def test_pyproject_has_the_extras(command):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = set(project["project"]["optional-dependencies"]) | set(project["dependency-groups"])
    *_, last = shlex.split(command)
    extras = re.search(r"\[(.*)\]", last)
    assert set((extras[1] if extras else last).split(",")) <= known


@pytest.mark.parametrize("command", commands_that_start("python -m benchmarks."))
def test_the_script_has_the_options(command):
    module = ROOT.joinpath(*command.split()[2].split("."))
    path = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    # What stands in one quoted word is for another program.
    own = " ".join(word for word in shlex.split(command) if " " not in word)
    assert [option for option in OPTION.findall(own) if f'"{option}"' not in source] == []


def test_every_option_that_a_page_names_is_there():
    commands = typer.main.get_command(app).commands.values()
    parameters = [parameter for command in commands for parameter in command.params]
    known = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
    scripts = [path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py")]
    known |= set(re.findall(r'"(--[\w-]+)"', "".join(scripts)))
    known |= {"--debug", "--version", "--install-completion", "--help"}  # of `kneeedge` itself
    known |= RENAMED.keys()
    for name, text in TEXTS.items():
        code = re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        named = set(OPTION.findall(" ".join(code)))
        assert sorted(named - known) == [], name


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "kneeedge/inference/README.md"])
def test_the_python_example_of_the_page_runs(
    page, exported, phantoms, tmp_path, monkeypatch, capsys
):
    (example,) = re.findall(r"```python\n(.*?)```", TEXTS[page], re.DOTALL)
    image = next((phantoms / "test/Healthy").iterdir())
    (tmp_path / "model.onnx").write_bytes(exported["int8"].read_bytes())
    (tmp_path / "xray.png").write_bytes(image.read_bytes())
    shutil.copytree(phantoms / "test/Healthy", tmp_path / "radiographs/test")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, page, "exec"), names)  # noqa: S102 - our own text
    assert re.search(r"(Healthy|Osteoporosis) [01]\.\d+", capsys.readouterr().out)
    assert len(names["answers"]) == len(list((phantoms / "test/Healthy").iterdir()))


@pytest.mark.slow
def test_weights_saved_as_the_training_page_says_are_read(tmp_path, monkeypatch):
    from kneeedge.model.spec import Architecture
    from kneeedge.training.model import KneeVGG
    from kneeedge.training.weights import load_pretrained

    (example,) = re.findall(r"```python\n(.*?)```", TEXTS["kneeedge/training/README.md"], re.DOTALL)
    monkeypatch.chdir(tmp_path)
    without_download = example.replace("VGG19_Weights.IMAGENET1K_V1", "None")
    exec(compile(without_download, "README.md", "exec"), {})  # noqa: S102 - our own text
    origin = load_pretrained(KneeVGG(Architecture(), 2), "vgg19.safetensors")
    assert origin.startswith("sha256:")
