"""For the Python that has onnxruntime-gpu: how it takes the options of a provider.

stdin is a JSON list of [provider, options]; stdout is that of the errors, empty where a session
opened on the provider.
"""

import json
import sys

import onnxruntime


def error_of(model: str, provider: str, options: dict[str, str]) -> str:
    """What is said where a session with these options does not open on the provider."""
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    asked = [(provider, options)]
    try:
        session = onnxruntime.InferenceSession(model, quiet, providers=asked, enable_fallback=0)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return "" if provider in session.get_providers() else "the provider was left out"


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump([error_of(sys.argv[1], *options) for options in asked], sys.stdout)
