"""A model file → a model repository for NVIDIA's Triton Inference Server, and what runs in it."""
