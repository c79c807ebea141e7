"""What is compared: kneeedge's files, and what a user of today's tools would run in their place."""

from dataclasses import dataclass
from pathlib import Path

from kneeedge.model.spec import ModelSpec
from kneeedge.runs.folder import Run

FP32, BF16, INT8 = "fp32", "bf16", "int8"
REFERENCE = "eager"
ULTRALYTICS = "int8 the way of Ultralytics"


@dataclass(frozen=True)
class Subject:
    """One row of the study."""

    name: str
    "for --only"
    title: str
    arithmetic: str
    "fp32, bf16 or int8: in which most of its products are made; its ceiling is of this arithmetic"
    file: str
    "what it runs: the run's `model.safetensors`, `kneeedge.<precision>`, or what `prepare` makes"


SUBJECTS = (
    Subject(REFERENCE, "PyTorch eager, fp32", FP32, "model.safetensors"),
    Subject("channels-last", "PyTorch channels-last, bf16 autocast", BF16, "model.safetensors"),
    Subject("compile", "PyTorch `torch.compile`, fp32", FP32, "model.safetensors"),
    Subject("onnx", "plain `torch.onnx.export`, RGB fp32 in, ONNX Runtime", FP32, "plain.onnx"),
    Subject("dynamic", "ONNX Runtime dynamic int8", INT8, "dynamic.onnx"),
    Subject("static", "ONNX Runtime static int8, defaults", INT8, "static.onnx"),
    Subject("ultralytics-onnx", f"{ULTRALYTICS}, ONNX Runtime", INT8, "ultralytics.onnx"),
    Subject("ultralytics-openvino", f"{ULTRALYTICS}, OpenVINO", INT8, "ultralytics.xml"),
    Subject("openvino", "OpenVINO fp32", FP32, "openvino.xml"),
    Subject("openvino-bf16", "OpenVINO bf16", BF16, "openvino.xml"),
    Subject("openvino-int8", "OpenVINO int8 (NNCF, defaults)", INT8, "nncf.xml"),
    Subject("openvino-kneeedge", "OpenVINO on kneeedge's int8 file", INT8, "kneeedge.int8"),
    Subject("kneeedge-fp32", "**kneeedge fp32**", FP32, "kneeedge.fp32"),
    # ONNX Runtime's CPU multiplies fp16 in fp32
    Subject("kneeedge-fp16", "**kneeedge fp16**", FP32, "kneeedge.fp16"),
    Subject("kneeedge-int8", "**kneeedge int8**", INT8, "kneeedge.int8"),
)


@dataclass(frozen=True)
class Place:
    """Where the study's files are."""

    run: str
    "a finished run, exported"
    work: str
    "scratch: what `prepare` makes, and the images"
    threads: int

    def spec(self) -> ModelSpec:
        """The run's spec, without PyTorch."""
        return Run(Path(self.run)).read_spec()

    def file(self, subject: Subject) -> Path:
        """The file that a subject runs; of the run's models one that passed, else the rejected."""
        if subject.file == "model.safetensors":
            return Path(self.run, subject.file)
        if not subject.file.startswith("kneeedge."):
            return Path(self.work, subject.file)
        precision = subject.file.removeprefix("kneeedge.")
        folder = Path(self.run, "models")
        passed = list(folder.glob(f"*.{precision}.onnx"))
        rejected = list(folder.glob(f"rejected/*.{precision}.onnx"))
        missing = folder / f"no-{precision}.onnx"
        return [*passed, *rejected, missing][0]

    def images(self, split: str) -> Path:
        """The file of the (N, 1, S, S) uint8 images of `test`, `train` or `val`."""
        return Path(self.work, f"{split}.npy")


def size_mb(file: Path) -> float:
    """Megabytes on disk, with the weights that stand beside the graph."""
    paths = (file, Path(f"{file}.data"), file.with_suffix(".bin"))
    n_bytes = sum(path.stat().st_size for path in paths if path.is_file())
    return round(n_bytes / 1e6, 2)
