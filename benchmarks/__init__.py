import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # some scripts import ONNX Runtime by themselves
