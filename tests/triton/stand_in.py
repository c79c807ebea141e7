"""Runs the model that takes pixels, in the place of Triton's `onnxruntime` backend.

The wheel that the tests take the server from has no such backend. This one takes the same config
but for two words, so that the server's own parser, batcher and warm-up see the rest of it.
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton

from kneeedge.runtime.session import Session


class TritonPythonModel:
    def initialize(self, args):
        self.session = Session(Path(args["model_repository"], "1/model.onnx"), "cpu", 1)

    def execute(self, requests):
        images = [np.from_dlpack(triton.get_input_tensor_by_name(r, "image")) for r in requests]
        return [self.respond(np.ascontiguousarray(each)) for each in images]

    def respond(self, images):
        outputs = self.session.run(images)
        arrays = {name: getattr(outputs, name) for name in self.session.outputs}
        tensors = [triton.Tensor.from_dlpack(name, array) for name, array in arrays.items()]
        return triton.InferenceResponse(tensors)
