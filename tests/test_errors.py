"""Errors: one line, one tree, and whole when a pool of processes sends them on."""

import pickle
import re

import pytest

from kneeedge import errors
from kneeedge.errors import KneeEdgeError

EXAMPLES = (
    errors.ImageError("a.png", "is empty"),
    errors.TooLargeError("a.png", 9, 8, 7),
    errors.InputError("input 3", "is of type int", "give a path"),
    errors.SharingError("a Predictor", "make one in each process"),
    errors.DataError("data", "is empty", "fill it"),
    errors.ConfigError("--x 1 is out of range", "give less"),
    errors.SpecError("m.onnx", "is damaged"),
    errors.ModelFileError("m.onnx", "is damaged"),
    errors.SignatureError("m.onnx", "is not signed", "sign it"),
    errors.PromiseError("PPV 0.97 needs 146 images", "give more"),
    errors.NoAnswerError("m.onnx", "fp16", "NaN"),
    errors.NotFoundError("x is not there", "check the path"),
    errors.OutputExistsError("out", "name another"),
    errors.ArchiveError("http://a", "does not answer", "check it"),
    errors.BusyError("out"),
    errors.CheckpointError("w", "do not fit", "give others"),
    errors.DivergedError(3),
    errors.MissingExtraError("reading DICOM", "pydicom", "pip install x"),
    errors.RuntimeConflictError(["onnxruntime", "onnxruntime-gpu"]),
    errors.OutOfMemoryError(),
    errors.PackageError("thing@1.2.3", "npm cannot get it"),
    errors.ProviderError("cuda", "no GPU", "use the CPU"),
    errors.WorkerError("a worker", "it died"),
    errors.PeerLostError(),
)


def test_every_class_has_an_example_and_its_place_in_the_tree() -> None:
    classes = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, KneeEdgeError)
    }
    assert {type(error) for error in EXAMPLES} == classes - {KneeEdgeError}
    tree = set(re.findall(r"\w+Error(?= \(| +\w|$)", errors.__doc__ or "", re.MULTILINE))
    assert {kind.__name__ for kind in classes} <= tree


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_that_another_process_sends_is_the_one_that_it_raised(
    error: KneeEdgeError,
) -> None:
    received = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received) == vars(error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        raise received
