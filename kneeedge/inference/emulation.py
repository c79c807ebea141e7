"""`kneeedge verify --emulate`: the same command as a child process on CPUs that qemu emulates.

The one call is `emulate`. A child that crashes, or takes too long, is a report that says so.
"""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ConfigError
from kneeedge.inference.answer_rows import DeviceAnswers, read_rows, write_rows
from kneeedge.inference.verification import Verification, VerifyRequest, verify_models
from kneeedge.model.file import open_model
from kneeedge.runtime.emulated_cpus import EmulatedCpu
from kneeedge.runtime.emulator import QEMU_PACKAGE, Emulator, open_emulator
from kneeedge.system import processes
from kneeedge.system.machine import available_cpus
from kneeedge.system.outputs import ANSWERS, check_outputs
from kneeedge.system.progress import Progress, Stage
from kneeedge.system.strict_json import from_json

DONE, DONE_WITH_FAULTS = 0, 3
"exit codes of a `kneeedge verify` that wrote its report"
NOISE = b": warning: TCG doesn't support requested feature"
"what qemu says of features that no kernel asks for, such as PCID"
POLL_SECONDS = 0.05
TAIL_BYTES = 1024
"of what a child says, in which its last line is looked for"


@dataclass(frozen=True)
class EmulationRequest:
    """What to verify on which CPUs; raises ConfigError for what is of no emulated CPU."""

    verify: VerifyRequest
    "images are held against the answers of this CPU where it names nothing else"
    cpus: tuple[EmulatedCpu, ...]
    root: Path | None = None
    "the folder of `kneeedge.runtime.arm64_root`; None: its default"
    timeout_s: float = 3600.0
    "for one file on one CPU"

    def __post_init__(self) -> None:
        provider = self.verify.provider
        if provider not in ("auto", "cpu"):
            problem = f"--emulate is about CPUs, and --provider {provider} is none"
            raise ConfigError(problem, "leave out one of them")
        if self.verify.against_provider is not None:
            problem = "--emulate holds images against this CPU's answers, or those of --against"
            raise ConfigError(problem, "leave out --against-provider")

    @property
    def threads(self) -> int:
        """Of each child; as many run at once as there are cores for."""
        return self.verify.threads or 1


@dataclass(frozen=True, kw_only=True)
class EmulatedReport:
    """How one file answers on one emulated CPU."""

    emulated: str
    "the CPU, as `--emulate` takes it"
    emulator: str
    "and its version"
    model: str
    sha256: str
    passed: bool
    seconds: float
    "that the emulation took, which says nothing of the CPU's own speed"
    failure: str = ""
    "why there are no answers; empty where there are"
    answers: Verification | None = None
    "as of `verify`; absent where there are none"


@dataclass(frozen=True)
class Job:
    """One file on one CPU."""

    cpu: EmulatedCpu
    model: Path
    sha256: str
    emulator: Emulator
    folder: Path
    "that the emulator prepared for the CPU"
    arguments: tuple[str, ...]
    "of `kneeedge`"
    rows: Path
    "where it may write its answers to images"


class Run:
    """A job under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._stdout: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes them
        self._stderr: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._start = time.monotonic()
        command = job.emulator.command(job.folder, job.cpu, *job.arguments)
        self._process = subprocess.Popen(
            processes.command("kneeedge.system.leash", *command),
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            env=job.emulator.variables(job.folder),
        )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def progress(self) -> str:
        """The last whole line of what it says of its progress; empty before it has said any."""
        descriptor = self._stderr.fileno()
        end = os.fstat(descriptor).st_size
        # not by `seek`, which would move the place where the child writes too
        tail = os.pread(descriptor, TAIL_BYTES, max(end - TAIL_BYTES, 0))
        lines = tail.rpartition(b"\n")[0].splitlines()
        said = [line for line in lines if NOISE not in line]
        return said[-1].decode(errors="replace") if said else ""

    def report(self, timeout_s: float) -> EmulatedReport:
        """What it answered, or why it did not; one that has not ended by then took too long."""
        answers = None
        failure = ""
        try:
            answers = self._answers(timeout_s)
        except ValueError as error:
            failure = str(error)
        return EmulatedReport(
            emulated=self.job.cpu.name,
            emulator=self.job.emulator.version,
            model=str(self.job.model),
            sha256=self.job.sha256,
            passed=answers is not None and not answers.failed,
            seconds=round(self.seconds, 1),
            failure=failure,
            answers=answers,
        )

    def end(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._stdout.close()
        self._stderr.close()

    def _answers(self, timeout_s: float) -> Verification:
        """Its report; ValueError says why there is none, or none that can be believed."""
        status = self._process.poll()
        if status is None:
            raise ValueError(f"no answers within {timeout_s:.0f} s; give it a longer --timeout")
        self._stdout.seek(0)
        self._stderr.seek(0)
        if status not in (DONE, DONE_WITH_FAULTS):
            lines = self._stderr.read().splitlines(keepends=True)
            words = b"".join(line for line in lines if NOISE not in line)
            raise ValueError(processes.last_words(status, words))
        answers = read_report(self._stdout.read())
        golden = answers.golden
        if golden.sha256 != self.job.sha256:
            raise ValueError("the file was changed meanwhile; run the command again")
        if golden.isa != self.job.cpu.isa:
            seen = " ".join(golden.isa) or "no instruction sets"
            raise ValueError(f"it read {seen} of the CPU; use Debian 12's {QEMU_PACKAGE}")
        return answers


def emulate(request: EmulationRequest, progress: Progress) -> list[EmulatedReport]:
    """A report of each file on each CPU, in the order of the CPUs.

    With images, this CPU answers them first. Raises what `open_emulator` and `open_model` raise,
    and `verify_models` with images.
    """
    verify = request.verify
    check_outputs([(verify.rows, ANSWERS)], verify.models)
    architectures = dict.fromkeys(cpu.architecture for cpu in request.cpus)
    emulators = {name: open_emulator(name, request.root) for name in architectures}
    files = [open_model(path, verify.public_key) for path in verify.models]
    with tempfile.TemporaryDirectory(prefix="kneeedge-") as scratch:
        native = native_rows(verify, Path(scratch), progress)
        jobs = []
        for cpu in request.cpus:
            emulator = emulators[cpu.architecture]
            folder = Path(scratch) / cpu.name
            emulator.prepare(folder, cpu)
            for i, file in enumerate(files):
                rows = folder / f"{i}.json"
                arguments = arguments_of(request, file.path, native, rows)
                jobs.append(Job(cpu, file.path, file.sha256, emulator, folder, arguments, rows))
        with progress.stage("emulate", len(jobs)) as stage:
            reports = run_all(jobs, request, stage)
        answers = [each for job in jobs for each in rows_of(job)]
        if verify.rows and answers:
            write_rows(verify.rows, answers)
    return [reports[job] for job in jobs]


def native_rows(verify: VerifyRequest, folder: Path, progress: Progress) -> Path | None:
    """A file of rows with what the CPU here answers to the images; None without images.

    Images, files and rows that cannot be verified here are refused before hours of emulation.
    """
    if verify.data is None:
        return None
    path = folder / "native.json"
    verify_models(replace(verify, provider="cpu", rows=path), progress)
    return path


def rows_of(job: Job) -> list[DeviceAnswers]:
    """The answers that a job wrote; none where it failed before it did."""
    return read_rows(job.rows) if job.rows.exists() else []


def arguments_of(
    request: EmulationRequest, model: Path, native: Path | None, rows: Path
) -> tuple[str, ...]:
    """The `kneeedge verify` of one file. It decodes by itself, since it cannot start processes."""
    verify = request.verify
    options = {
        "--provider": "cpu",
        "--threads": request.threads,
        "--json": "-",
        "--data": verify.data,
        "--split": verify.split,
        "--group-regex": verify.group_regex,
        "--grey-bits": verify.grey_bits,
        "--against": verify.against or native,
        "--rows": rows if verify.data else None,
    }
    given = [(name, str(value)) for name, value in options.items() if value is not None]
    words = [word for option in given for word in option]
    return ("verify", "--no-isolate", *words, "--", str(model))


def run_all(jobs: list[Job], request: EmulationRequest, stage: Stage) -> dict[Job, EmulatedReport]:
    """Run the jobs, as many at once as there are cores for; whatever ends this ends them."""
    n_at_once = max(1, available_cpus() // request.threads)
    waiting = iter(jobs)
    running: list[Run] = []
    reports: dict[Job, EmulatedReport] = {}
    try:
        while len(reports) < len(jobs):
            running += [Run(job) for job in islice(waiting, n_at_once - len(running))]
            remark_on(running, stage)
            for run in ended_runs(running, request.timeout_s):
                reports[run.job] = run.report(request.timeout_s)
                running.remove(run)
                run.end()
                stage.advance(note=f"{run.job.cpu.name} done")
    finally:
        for run in running:
            run.end()
    return reports


def remark_on(running: list[Run], stage: Stage) -> None:
    """Show how far the children are."""
    notes = [f"{run.job.cpu.name}: {said}" for run in running if (said := run.progress())]
    if notes:
        stage.remark("; ".join(notes))


def ended_runs(running: list[Run], timeout_s: float) -> list[Run]:
    """Those that have ended or take too long, after a moment."""
    time.sleep(POLL_SECONDS)
    return [run for run in running if run.has_ended or run.seconds > timeout_s]


def read_report(stdout: bytes) -> Verification:
    """The one record that `verify MODEL --json -` writes; ValueError for anything else."""
    try:
        (record,) = json.loads(stdout)
        del record["format"]
        return from_json(Verification, json.dumps(record))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"its report is damaged: {error}") from error
