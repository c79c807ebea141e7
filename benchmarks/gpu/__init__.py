"""A file on an NVIDIA GPU: ceilings, answers, speeds, a folder, TensorRT."""
