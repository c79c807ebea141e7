"""One file by several wheels of ONNX Runtime."""
