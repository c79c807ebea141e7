"""What the validation images look like to each variant, by the answers that it gave the gate."""

from collections.abc import Sequence
from functools import cached_property

import onnx

from kneeedge.data.dataset import Sample
from kneeedge.inference.image_figures import reference_of
from kneeedge.model.reference import to_metadata
from kneeedge.model.spec import ModelSpec, PixelPath
from kneeedge.pixels.pixel_path import Input, load_with_facts
from kneeedge.runtime.session import Outputs


class ReferenceMaker:
    """Remembers what each graph answered, so that no image is answered again for its reference."""

    def __init__(self, pixel_path: PixelPath, samples: Sequence[Sample]) -> None:
        self._pixel_path = pixel_path
        self._samples = samples
        self._outputs: dict[int, Outputs] = {}
        "by the graph's identity: of two that share one, the later is alive"

    def note(self, graph: onnx.ModelProto, outputs: Outputs) -> None:
        """Remember the graph's answers to the samples."""
        self._outputs[id(graph)] = outputs

    def metadata(self, graph: onnx.ModelProto, spec: ModelSpec) -> str:
        """The text that a file of the graph and the spec carries; KeyError without its answers."""
        outputs = self._outputs[id(graph)]
        keys = [sample.sha256 for sample in self._samples]
        split = self._samples[0].split
        logits = outputs.logits
        return to_metadata(reference_of(self._inputs, keys, logits, outputs.distance, spec, split))

    @cached_property
    def _inputs(self) -> list[Input]:
        return [load_with_facts(sample.path, self._pixel_path) for sample in self._samples]
