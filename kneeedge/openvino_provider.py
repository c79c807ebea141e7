"""Intel CPUs through OpenVINO's kernels: what a session asks of ONNX Runtime's OpenVINO provider."""

import json

OPENVINO = "OpenVINOExecutionProvider"


def openvino_options(threads: int) -> dict[str, str]:
    """The provider's options: the CPU device, all its threads on one run at a time.

    Left to itself OpenVINO computes an fp32 file in bf16 where the CPU has it; here fp32 stays fp32, and an fp16 file
    is computed in fp32. Quantised layers run in 8 bits all the same. The provider's own options for precision, threads
    and streams are deprecated in favour of `load_config` (onnxruntime.ai, OpenVINO Execution Provider).
    """
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}
