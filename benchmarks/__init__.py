import os

# some scripts import ONNX Runtime by themselves
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
