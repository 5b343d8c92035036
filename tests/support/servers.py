"""Where a test's servers listen, and calls of their models by NVIDIA's own client."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress
from typing import Any

import numpy as np
import tritonclient.grpc

from sam_refine.contract import MODELS

SPECS = {model.name: {spec.name: spec for spec in model.inputs} for model in MODELS}


_ports = itertools.cycle(range(20_000, 32_000))
for _ in range(os.getpid() * 97 % 12_000):  # test runs beside each other begin apart
    next(_ports)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, none of them given out before.

    A server opens its ports seconds later. They lie below those that Linux gives to connections and
    to whoever asks for port 0, so that nobody comes between.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            found.append(port)
    return found


def server_ports() -> dict[str, int]:
    """Three free ports as keyword arguments of `ServerOptions`."""
    return dict(zip(("grpc_port", "http_port", "metrics_port"), free_ports(3), strict=True))


def calls_of(client: tritonclient.grpc.InferenceServerClient) -> Any:
    """infer(inputs, outputs, parameters={}, model="sam_refine") -> outputs by name."""

    def infer(inputs, outputs, parameters=None, model="sam_refine", **arguments):
        tensors = []
        for name, array in inputs.items():
            tensor = tritonclient.grpc.InferInput(
                name, list(array.shape), SPECS[model][name].datatype
            )
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            tensors.append(tensor)
        response = client.infer(
            model,
            tensors,
            outputs=[tritonclient.grpc.InferRequestedOutput(name) for name in outputs],
            parameters=parameters,
            **arguments,
        )
        return {name: response.as_numpy(name) for name in outputs}

    return infer
