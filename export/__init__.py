"""Checkpoint → verified ONNX files. Needs the [train] extra."""
