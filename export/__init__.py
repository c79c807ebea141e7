"""Checkpoint → verified ONNX files. Needs the [train] extra."""

from kneeedge.runtime.providers import load_runtime

load_runtime()  # before a module of this package imports ONNX Runtime, which would begin with its telemetry
