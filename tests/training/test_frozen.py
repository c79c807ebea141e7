"""Frozen features: of a picture alone, whatever stands beside it, and their source is said."""

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from kneeedge.errors import NotFoundError
from kneeedge.pixels.phantom import phantoms
from kneeedge.system.progress import Progress
from kneeedge.training.frozen import FrozenFeatures

QUIET = Progress(quiet=True)


def test_features_are_those_of_the_picture_alone_and_say_where_they_come_from():
    extract = FrozenFeatures("none", QUIET, size=64)
    pictures = phantoms(3, 64)[:, 0]
    features = extract(pictures)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_allclose(extract(pictures[1:2]), features[1:2], rtol=1e-3, atol=1e-4)
    assert "untrained" in extract.method


def test_a_file_of_weights_that_is_not_there_is_one_clear_error():
    with pytest.raises(NotFoundError, match="no such weights file"):
        FrozenFeatures("nowhere.safetensors", QUIET)
