"""Every option that kneeedge sets is read by the real onnxruntime-gpu, without a GPU.

With a driver that finds no device the providers load and read their options, and end with an error
of CUDA; an unknown name or value is another error.
"""

import dataclasses
from itertools import product
from pathlib import Path

import pytest

from kneeedge.model.metadata import read_model_spec
from kneeedge.runtime.cuda import CUDA, TENSORRT, GpuOptions, cuda_options, failure_reason
from kneeedge.runtime.tensorrt import tensorrt_options
from tests.gpu_wheel.wheel import GpuWheel, open_wheel
from tests.tiny_onnx import write_tiny_model

Sets = list[tuple[str, dict[str, str]]]
"providers with the options that each gets"
DEFAULTS = GpuOptions()
CHANGED = GpuOptions(
    tf32=True,
    memory_gb=1.5,
    nhwc=True,
    fuse_conv_bias=True,
    cuda_graph=False,
    lanes=3,
    max_batch=7,
    builder_level=5,
)
CACHE = Path("a folder/of engines")
MISSPELT: Sets = [
    (CUDA, {"use_tf_32": "1"}),
    (CUDA, {"use_tf32": "yes"}),
    (CUDA, {"gpu_mem_limit": "1.5"}),
    (CUDA, {"arena_extend_strategy": "kSameAsRequest"}),
    (CUDA, {"cudnn_conv_algo_search": "exhaustive"}),
    (TENSORRT, {"trt_fp16": "True"}),
    (TENSORRT, {"trt_fp16_enable": "1"}),
    (TENSORRT, {"trt_max_workspace_size": "much"}),
]


def single(sets: Sets) -> Sets:
    """Each name with each of its values once, by itself."""
    pairs = {(provider, *pair) for provider, options in sets for pair in options.items()}
    return [(provider, {name: value}) for provider, name, value in sorted(pairs)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> GpuWheel:
    return open_wheel(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    precisions = ("fp32", "fp16", "int8")
    return [write_tiny_model(folder / f"{name}.onnx", name) for name in precisions]


@pytest.fixture(scope="module")
def sets(models: list[Path]) -> Sets:
    """What kneeedge sets: of both choices, for each precision, for each of its sessions."""
    sets = []
    for choice, spec in product((DEFAULTS, CHANGED), map(read_model_spec, models)):
        precision = spec.file.precision
        sets += [(CUDA, cuda_options(choice, precision, capture)) for capture in (False, True)]
        sets.append((TENSORRT, tensorrt_options(choice, spec, CACHE)))
    return sets


def refused(wheel: GpuWheel, model: Path, asked: Sets) -> list[tuple[str, dict[str, str], str]]:
    """Provider, options and error where the provider did not even come to look for the GPU."""
    errors = map(RuntimeError, wheel.errors(model, asked))
    reasons = [failure_reason(error) for error in errors]
    return [
        (provider, options, reason)
        for (provider, options), reason in zip(asked, reasons, strict=True)
        if not reason.startswith("CUDA failure")
    ]


def test_both_choices_differ_in_every_field() -> None:
    names = [field.name for field in dataclasses.fields(GpuOptions)]
    same = [name for name in names if getattr(DEFAULTS, name) == getattr(CHANGED, name)]
    assert same == [], "give it another value in CHANGED, which the wheel is to read"


@pytest.mark.slow
def test_the_wheel_reads_every_option_that_kneeedge_sets(wheel, models, sets) -> None:
    assert refused(wheel, models[0], single(sets)) == []
    assert refused(wheel, models[0], sets) == []


@pytest.mark.slow
def test_the_wheel_refuses_a_misspelt_option_or_value(wheel, models) -> None:
    assert [options[:2] for options in refused(wheel, models[0], MISSPELT)] == MISSPELT


def test_tensorrts_library_knows_every_name(wheel, sets) -> None:
    library = (wheel.capi / "libonnxruntime_providers_tensorrt.so").read_bytes()
    names = {name for provider, each in sets if provider == TENSORRT for name in each}
    assert [name for name in sorted(names) if f"\0{name}\0".encode() not in library] == []
    assert b"\0trt_fp16_enabled\0" not in library


@pytest.mark.parametrize("with_stubs", [False, True])
def test_without_a_gpu_the_wheel_is_said_to_run_on_the_cpu_alone(wheel, with_stubs) -> None:
    code = """
import onnxruntime
from kneeedge.runtime.providers import available_providers
print(len(onnxruntime.get_available_providers()), *available_providers())
"""
    assert wheel.run("-c", code, with_stubs=with_stubs).split() == ["3", "cpu"]
