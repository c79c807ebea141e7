"""The session's trained network as PyTorch has it, and its fp32 graph, which takes seconds."""

import pytest


@pytest.fixture(scope="session")
def original(trained_run):
    """(network, spec); not to be changed."""
    from kneeedge.runs.folder import open_run
    from kneeedge.training.checkpoint import load_original

    return load_original(open_run(trained_run))


@pytest.fixture(scope="session")
def graph(original):
    """Not to be changed either."""
    from export.to_onnx import to_onnx

    return to_onnx(*original)
