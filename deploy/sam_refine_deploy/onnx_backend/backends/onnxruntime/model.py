"""Triton backend `onnxruntime` in Python: stands in for the C++ one if that is not installed."""

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from sam_refine.contract.serving.heartbeat import Heartbeat
from sam_refine.contract.serving.run_directory import run_directory
from sam_refine_deploy.onnx_backend.model import (
    Arrays,
    InvalidInputError,
    OnnxModel,
    Request,
    RunError,
    complete_config,
)


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        completion = complete_config(auto_complete_model_config.as_dict(), _model_file_of_stub())
        for tensor in completion.get("input", ()):
            auto_complete_model_config.add_input(tensor)
        for tensor in completion.get("output", ()):
            auto_complete_model_config.add_output(tensor)
        if "max_batch_size" in completion:
            auto_complete_model_config.set_max_batch_size(completion["max_batch_size"])
            auto_complete_model_config.set_dynamic_batching()
        return auto_complete_model_config

    def initialize(self, args: Mapping[str, str]) -> None:
        if int(np.__version__.split(".")[0]) >= 2:
            raise RuntimeError(
                "Triton's Python stub silently corrupts tensors with numpy 2; install numpy<2, "
                f"this is numpy {np.__version__}"
            )
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.onnx"
        file = Path(args["model_repository"]) / args["model_version"] / filename
        kind, device_id = args["model_instance_kind"], int(args["model_instance_device_id"])
        self.model = OnnxModel(config, file, kind, device_id)
        name, warning = args["model_instance_name"], self.model.warning
        self.heartbeat = Heartbeat(run_directory(), warning and f"{name}: {warning}")
        pb_utils.Logger.log_info(f"{name} runs on {self.model.summary}")
        if warning is not None:
            pb_utils.Logger.log_warn(f"{name}: {warning}")

    def finalize(self) -> None:
        self.heartbeat.end()

    def execute(self, requests: list[Any]) -> list[Any]:
        with self.heartbeat.answering():
            return self._answer(requests)

    def _answer(self, requests: list[Any]) -> list[Any]:
        cancelled = [request.is_cancelled() for request in requests]
        waiting = [request for request, gone in zip(requests, cancelled, strict=True) if not gone]
        answers = iter(self._run(waiting))
        return [_cancelled() if gone else _response(next(answers)) for gone in cancelled]

    def _run(self, requests: list[Any]) -> list[Arrays | RunError]:
        try:
            return self.model.run([_read(request) for request in requests])
        except Exception:  # the outer edge: Triton would send callers the whole traceback
            pb_utils.Logger.log_error(traceback.format_exc())
            return [RunError("internal error; the server's log has it")] * len(requests)


def _model_file_of_stub() -> Path:
    """The ONNX file: before `initialize`, only the stub's command line names it."""
    return Path(Path("/proc/self/cmdline").read_text(encoding="utf-8").split("\0")[1])


def _read(request: Any) -> Request:
    inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    return Request(inputs, tuple(request.requested_output_names()))


def _response(answer: Arrays | RunError) -> Any:
    if isinstance(answer, InvalidInputError):
        return _error(str(answer), pb_utils.TritonError.INVALID_ARG)
    if isinstance(answer, RunError):
        return _error(str(answer), pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in answer.items()])


def _cancelled() -> Any:
    return _error("the request was cancelled", pb_utils.TritonError.CANCELLED)


def _error(text: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))
