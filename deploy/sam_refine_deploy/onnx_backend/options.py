"""What a model's configuration says about its ONNX Runtime session.

The keys are those of Triton's C++ ONNX Runtime backend, with the same meaning, so that a model
repository loads on both. Unknown values are errors here; the C++ backend ignores some of them.
`share_session_between_instances` has no effect: each instance is a process of its own.

Configurations are Triton's JSON as Python objects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import onnxruntime as ort

from sam_refine_deploy.onnx_backend.tensors import Config

Provider = tuple[str, dict[str, str]]
_T = TypeVar("_T")

_BOOLEANS: Final = {"1": True, "true": True, "0": False, "false": False}
_GRAPH_LEVELS: Final = {
    "-1": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "0": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "1": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "2": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_EXECUTION_MODES: Final = {
    "0": ort.ExecutionMode.ORT_SEQUENTIAL,
    "1": ort.ExecutionMode.ORT_PARALLEL,
}
_DEVICE_INITIALIZERS: Final = "session.use_device_allocator_for_initializers"
_ARENA_SHRINKAGE: Final = "memory.enable_memory_arena_shrinkage"

# TensorRT's options under Triton's older names; the newer ones are ONNX Runtime's, `trt_...`.
_TENSORRT_KEYS: Final = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_TENSORRT_PRECISIONS: Final = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "BF16": {"trt_bf16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}
# CUDA options that may also be parameters of the model, as in older versions of Triton.
_CUDA_CHOICES: Final = {
    "cudnn_conv_algo_search": {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"},
    "arena_extend_strategy": {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"},
    "do_copy_in_default_stream": {"0": "0", "1": "1"},
}
_CUDA_NUMBERS: Final = ("gpu_mem_limit",)


class LoadError(Exception):
    """A model cannot be loaded as configured: one sentence with key, rule and value."""


def session_options(config: Config) -> ort.SessionOptions:
    """Threads, graph optimisation and memory.

    Without `intra_op_thread_count` there is one thread for each core that this process may use;
    ONNX Runtime itself would count all cores of the machine. Raises `LoadError` for an unknown
    value.
    """
    options = ort.SessionOptions()
    level = config.get("optimization", {}).get("graph", {}).get("level", 0)
    options.graph_optimization_level = _choose(
        "optimization.graph.level", str(level), _GRAPH_LEVELS
    )
    options.execution_mode = _parameter(config, "execution_mode", _EXECUTION_MODES, "0")
    options.intra_op_num_threads = _count(config, "intra_op_thread_count") or available_cores()
    options.inter_op_num_threads = _count(config, "inter_op_thread_count")
    options.enable_cpu_mem_arena = _parameter(config, "enable_mem_arena", _BOOLEANS, "1")
    options.enable_mem_pattern = _parameter(config, "enable_mem_pattern", _BOOLEANS, "1")
    if _parameter(config, _DEVICE_INITIALIZERS, _BOOLEANS, "0"):
        options.add_session_config_entry(_DEVICE_INITIALIZERS, "1")
    _parameter(config, "share_session_between_instances", _BOOLEANS, "0")
    for library in config.get("model_operations", {}).get("op_library_filename", ()):
        try:
            options.register_custom_ops_library(library)
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise LoadError(
                f"model_operations.op_library_filename {library} cannot be loaded"
            ) from error
    return options


def run_options(config: Config) -> ort.RunOptions:
    """Options of each run of the session: the devices whose memory is given back after it.

    Raises `LoadError` for an unknown value.
    """
    options = ort.RunOptions()
    devices = _text(config, _ARENA_SHRINKAGE)
    if devices is not None:
        if not re.fullmatch(r"(cpu|gpu):\d+(;(cpu|gpu):\d+)*", devices):
            raise LoadError(
                f"parameter {_ARENA_SHRINKAGE} must be like 'cpu:0;gpu:0', got {devices!r}"
            )
        options.add_run_config_entry(_ARENA_SHRINKAGE, devices)
    return options


def execution_providers(
    config: Config, kind: str, device_id: int, available: Sequence[str]
) -> list[Provider]:
    """ONNX Runtime's execution providers for one instance, with options, preferred ones first.

    `kind` is the instance's, "GPU" or "CPU"; GPU accelerators apply to GPU instances only. A GPU
    instance runs on the CPU if this onnxruntime has no CUDA, because Triton makes GPU instances by
    default on a machine that has a GPU. Raises `LoadError` for an unknown accelerator or value, and
    for an accelerator that is not among the `available` providers.
    """
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    gpu = _gpu_providers(config, accelerators.get("gpu_execution_accelerator", ()), device_id)
    wanted = gpu if kind == "GPU" else {}
    for accelerator in accelerators.get("cpu_execution_accelerator", ()):
        _choose("cpu_execution_accelerator", accelerator["name"], {"openvino": None})
        wanted["OpenVINOExecutionProvider"] = {"device_type": "CPU"}
    for name in wanted:
        if name not in available:
            raise LoadError(
                f"execution_accelerators ask for {name}, this onnxruntime has only "
                f"{', '.join(available)}"
            )
    if kind == "GPU" and "CUDAExecutionProvider" in available:
        wanted.setdefault("CUDAExecutionProvider", _cuda_options(config, device_id, {}))
    return [*wanted.items(), ("CPUExecutionProvider", {})]


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def _gpu_providers(
    config: Config, accelerators: Sequence[Config], device_id: int
) -> dict[str, dict[str, str]]:
    makers = {"tensorrt": _tensorrt_options, "cuda": _cuda_options}
    names = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}
    providers = {}
    for accelerator in accelerators:
        name = accelerator["name"]
        provider = _choose("gpu_execution_accelerator", name, names)
        providers[provider] = makers[name](config, device_id, accelerator.get("parameters", {}))
    return providers


def _tensorrt_options(
    config: Config, device_id: int, parameters: Mapping[str, str]
) -> dict[str, str]:
    options = {"device_id": str(device_id)}
    for key, value in parameters.items():
        if key == "precision_mode":
            options |= _choose("tensorrt precision_mode", value, _TENSORRT_PRECISIONS)
        elif key in _TENSORRT_KEYS or key.startswith("trt_"):
            options[_TENSORRT_KEYS.get(key, key)] = value
        else:
            raise LoadError(f"the tensorrt accelerator has no parameter {key!r}")
    return options


def _cuda_options(config: Config, device_id: int, parameters: Mapping[str, str]) -> dict[str, str]:
    options = {"device_id": str(device_id), **parameters}
    for key, choices in _CUDA_CHOICES.items():
        if _text(config, key) is not None:
            options[key] = _parameter(config, key, choices, "")
    for key in _CUDA_NUMBERS:
        if _text(config, key) is not None:
            options[key] = str(_count(config, key))
    return options


def _text(config: Config, key: str) -> str | None:
    """A model parameter as the configuration has it; None if it is not there."""
    parameter = config.get("parameters", {}).get(key)
    return None if parameter is None else str(parameter["string_value"])


def _parameter(config: Config, key: str, choices: Mapping[str, _T], default: str) -> _T:
    value = _text(config, key)
    return _choose(f"parameter {key}", default if value is None else value, choices)


def _choose(key: str, value: str, choices: Mapping[str, _T]) -> _T:
    if value.lower() not in choices and value not in choices:
        raise LoadError(f"{key} must be one of {', '.join(choices)}, got {value!r}")
    return choices[value] if value in choices else choices[value.lower()]


def _count(config: Config, key: str) -> int:
    value = _text(config, key)
    if value is None:
        return 0
    if not value.isdecimal():
        raise LoadError(f"parameter {key} must be an integer >= 0, got {value!r}")
    return int(value)
