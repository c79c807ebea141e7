"""What the validation images look like to each variant, of what the gate read and was answered."""

from collections.abc import Sequence

from kneeedge.data.dataset import Sample
from kneeedge.inference.image_figures import PictureFigures, answered_figures, picture_figures
from kneeedge.model import reference
from kneeedge.model.reference import MOST_IMAGES, Reference, to_metadata
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.pixel_path import Input
from kneeedge.runtime.session import Outputs


class ReferenceMaker:
    """Notes what the gate reads, so that no file is opened or answered again for a reference.

    The hashes of the files order the images, so that nothing is told by their order, and the first
    MOST_IMAGES are kept.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._split = samples[0].split
        self._n = len(samples)
        order = sorted(range(len(samples)), key=lambda i: samples[i].sha256)
        self._kept = {i: samples[i].sha256 for i in order[:MOST_IMAGES]}
        "place among the samples, and hash, of each image of a reference, in its order"
        self._wanted = frozenset(self._kept.values())
        self._pictures: dict[str, PictureFigures] = {}
        "by the hash of the file"

    def note(self, sample: Sample, read: Input) -> None:
        """Note the figures of a sample's picture, the first time that it is read."""
        sha256 = sample.sha256
        if sha256 in self._wanted and sha256 not in self._pictures:
            self._pictures[sha256] = picture_figures(read.pixels, read.n_pixels, read.study)

    def metadata(self, outputs: Outputs, spec: ModelSpec) -> str:
        """The text that a file of the spec carries which gave these answers to the samples.

        They are in the samples' order. Raises KeyError for a picture that was not noted.
        """
        distances = outputs.distance
        images = [
            answered_figures(
                self._pictures[sha256],
                outputs.logits[i],
                None if distances is None else float(distances[i]),
                spec,
            )
            for i, sha256 in self._kept.items()
        ]
        columns = reference.Sample.of(images)
        return to_metadata(Reference(split=self._split, n=self._n, images=columns))
