"""Checkpoint → verified ONNX files. Needs the [train] extra."""

from kneeedge.runtime.providers import load_runtime

# Before a module of this package imports ONNX Runtime, which would begin with its telemetry.
load_runtime()
