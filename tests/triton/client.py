"""Asks a Triton server by tritonclient; run by the Python of `.ci/triton`, without kneeedge.

    client.py files  http|grpc ADDRESS MODEL THREADS FILE…
    client.py rows   http|grpc ADDRESS MODEL FILE            the file twice in one request
    client.py pixels http|grpc ADDRESS MODEL IN.npy OUT.npz
    client.py load   http|grpc ADDRESS MODEL CLIENTS SECONDS FILE…

`files` prints a list in the order of the files; an infinite or missing figure is null. `load` asks
for that many seconds from as many threads, each with a connection of its own, and prints the
seconds of each answer.
"""

import importlib
import json
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tritonclient.utils import InferenceServerException


class Asker:
    """Connections to a server, one a thread: those of tritonclient.http belong to one."""

    def __init__(self, protocol, address, model):
        self._client = importlib.import_module(f"tritonclient.{protocol}")
        self._address = address
        self._model = model
        self._own = threading.local()

    def ask(self, name, array, request_id=""):
        if not hasattr(self._own, "connection"):
            self._own.connection = self._client.InferenceServerClient(self._address)
        tensor = self._client.InferInput(name, array.shape, "UINT8")
        tensor.set_data_from_numpy(array)
        return self._own.connection.infer(self._model, [tensor], request_id=request_id)

    def ask_file(self, path, n=1):
        rows = np.tile(np.fromfile(path, dtype=np.uint8), (n, 1))
        try:
            result = self.ask("file", rows, Path(path).name)
        except InferenceServerException as error:
            return {"failure": error.message()}
        return {
            "answer": bytes(result.as_numpy("answer")[0]).decode(),
            "probabilities": finite(result.as_numpy("probabilities")[0]),
            "distance": finite(result.as_numpy("distance")[0])[0],
        }


def finite(array):
    return [float(value) if math.isfinite(value) else None for value in array]


def load(asker, n_clients, seconds, files):
    """Seconds of each answer that came before the end, and how long it took until the last."""
    start = time.perf_counter()

    def one(first):
        times = []
        i = first
        while (before := time.perf_counter()) - start < seconds:
            result = asker.ask_file(files[i % len(files)])
            if "failure" in result:
                raise RuntimeError(result["failure"])
            times.append(time.perf_counter() - before)
            i += n_clients
        return times

    with ThreadPoolExecutor(n_clients) as pool:
        lists = list(pool.map(one, range(n_clients)))
    times = [seconds for each in lists for seconds in each]
    return {"seconds": time.perf_counter() - start, "latencies": times}


def main(what, protocol, address, model, *rest):
    asker = Asker(protocol, address, model)
    if what == "files":
        with ThreadPoolExecutor(int(rest[0])) as pool:
            say(list(pool.map(asker.ask_file, rest[1:])))
    elif what == "rows":
        say(asker.ask_file(rest[0], n=2))
    elif what == "pixels":
        result = asker.ask("image", np.load(rest[0]))
        names = [output["name"] for output in outputs_of(result)]
        np.savez(rest[1], **{name: result.as_numpy(name) for name in names})
    elif what == "load":
        say(load(asker, int(rest[0]), float(rest[1]), rest[2:]))


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")


def outputs_of(result):
    response = result.get_response()
    if isinstance(response, dict):
        return response["outputs"]
    return [{"name": output.name} for output in response.outputs]


if __name__ == "__main__":
    main(*sys.argv[1:])
