"""The real onnxruntime-gpu on a machine without a GPU, in an environment of its own."""
