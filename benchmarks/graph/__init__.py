"""What ONNX Runtime runs of a file, and what each node costs."""
