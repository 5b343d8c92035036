"""Calls of a server's models by NVIDIA's own client."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc

from sam_refine.contract import MODELS

SPECS = {model.name: {spec.name: spec for spec in model.inputs} for model in MODELS}


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
