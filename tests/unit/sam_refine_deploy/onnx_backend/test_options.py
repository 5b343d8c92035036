from __future__ import annotations

import onnxruntime as ort
import pytest

from sam_refine_deploy.onnx_backend.options import (
    LoadError,
    available_cores,
    execution_providers,
    run_options,
    session_options,
)

CPU = ("CPUExecutionProvider", {})
ALL = [
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
]


def parameters(**values):
    return {"parameters": {key: {"string_value": value} for key, value in values.items()}}


def accelerators(kind, *entries):
    return {"optimization": {"execution_accelerators": {f"{kind}_execution_accelerator": entries}}}


def test_session_options_of_empty_config_are_the_defaults():
    options = session_options({})
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.intra_op_num_threads == available_cores()
    assert options.inter_op_num_threads == 0
    assert options.enable_cpu_mem_arena
    assert options.enable_mem_pattern


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (-1, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
        (0, ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
        (1, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
        (2, ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
    ],
)
def test_session_options_graph_level_is_followed(level, expected):
    options = session_options({"optimization": {"graph": {"level": level}}})
    assert options.graph_optimization_level == expected


def test_session_options_of_every_parameter_are_followed():
    options = session_options(
        parameters(
            execution_mode="1",
            intra_op_thread_count="3",
            inter_op_thread_count="2",
            enable_mem_arena="0",
            enable_mem_pattern="False",
            **{"session.use_device_allocator_for_initializers": "1"},
        )
    )
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 2
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    key = "session.use_device_allocator_for_initializers"
    assert options.get_session_config_entry(key) == "1"


def test_session_options_leave_parameters_of_others_alone():
    session_options(parameters(EXECUTION_ENV_PATH="/env", share_session_between_instances="true"))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"optimization": {"graph": {"level": 3}}},
            r"optimization\.graph\.level must be one of -1, 0, 1, 2, got '3'",
        ),
        (parameters(execution_mode="2"), "parameter execution_mode must be one of 0, 1, got '2'"),
        (
            parameters(intra_op_thread_count="-1"),
            "parameter intra_op_thread_count must be an integer >= 0, got '-1'",
        ),
        (
            parameters(inter_op_thread_count="two"),
            "parameter inter_op_thread_count must be an integer >= 0, got 'two'",
        ),
        (
            parameters(enable_mem_arena="yes"),
            "parameter enable_mem_arena must be one of 1, true, 0, false, got 'yes'",
        ),
        (
            parameters(enable_mem_pattern=""),
            "parameter enable_mem_pattern must be one of 1, true, 0, false, got ''",
        ),
        (
            parameters(share_session_between_instances="2"),
            "parameter share_session_between_instances must be one of 1, true, 0, false, got '2'",
        ),
        (
            {"model_operations": {"op_library_filename": ["/no/such.so"]}},
            r"model_operations\.op_library_filename /no/such\.so cannot be loaded",
        ),
    ],
)
def test_session_options_of_unknown_value_name_key_and_value(config, text):
    with pytest.raises(LoadError, match=text):
        session_options(config)


def test_run_options_shrink_the_arena_where_asked():
    key = "memory.enable_memory_arena_shrinkage"
    assert run_options(parameters(**{key: "cpu:0"})).get_run_config_entry(key) == "cpu:0"


@pytest.mark.parametrize("value", ["", "cpu", "tpu:0", "cpu:0,gpu:0"])
def test_run_options_of_unknown_device_name_key_and_value(value):
    key = "memory.enable_memory_arena_shrinkage"
    with pytest.raises(LoadError, match=f"parameter {key} must be .*, got '{value}'"):
        run_options(parameters(**{key: value}))


def test_providers_of_cpu_instance_are_the_cpu():
    assert execution_providers({}, "CPU", 0, ALL) == [CPU]


def test_providers_of_gpu_instance_are_cuda_then_cpu():
    assert execution_providers({}, "GPU", 1, ALL) == [
        ("CUDAExecutionProvider", {"device_id": "1"}),
        CPU,
    ]


def test_providers_of_gpu_instance_without_cuda_are_the_cpu():
    assert execution_providers({}, "GPU", 0, ["CPUExecutionProvider"]) == [CPU]


def test_providers_with_tensorrt_come_first_and_carry_its_options():
    entry = {
        "name": "tensorrt",
        "parameters": {
            "precision_mode": "FP16",
            "max_workspace_size_bytes": "1073741824",
            "trt_engine_cache_enable": "1",
        },
    }
    assert execution_providers(accelerators("gpu", entry), "GPU", 0, ALL) == [
        (
            "TensorrtExecutionProvider",
            {
                "device_id": "0",
                "trt_fp16_enable": "1",
                "trt_max_workspace_size": "1073741824",
                "trt_engine_cache_enable": "1",
            },
        ),
        ("CUDAExecutionProvider", {"device_id": "0"}),
        CPU,
    ]


def test_providers_with_cuda_carry_accelerator_and_model_parameters():
    config = accelerators("gpu", {"name": "cuda", "parameters": {"use_tf32": "0"}})
    config |= parameters(cudnn_conv_algo_search="1", gpu_mem_limit="4294967296")
    assert execution_providers(config, "GPU", 0, ALL)[0] == (
        "CUDAExecutionProvider",
        {
            "device_id": "0",
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",
            "gpu_mem_limit": "4294967296",
        },
    )


def test_providers_of_cpu_instance_pass_over_gpu_accelerators():
    config = accelerators("gpu", {"name": "tensorrt"})
    assert execution_providers(config, "CPU", 0, ["CPUExecutionProvider"]) == [CPU]


def test_providers_with_openvino_come_before_the_cpu():
    config = accelerators("cpu", {"name": "openvino"})
    assert execution_providers(config, "CPU", 0, ALL) == [
        ("OpenVINOExecutionProvider", {"device_type": "CPU"}),
        CPU,
    ]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            accelerators("gpu", {"name": "tensorrt"}),
            "ask for TensorrtExecutionProvider, this onnxruntime has only CPUExecutionProvider",
        ),
        (accelerators("cpu", {"name": "openvino"}), "ask for OpenVINOExecutionProvider"),
        (
            accelerators("gpu", {"name": "openvino"}),
            "gpu_execution_accelerator must be one of tensorrt, cuda, got 'openvino'",
        ),
        (
            accelerators("cpu", {"name": "xnnpack"}),
            "cpu_execution_accelerator must be one of openvino, got 'xnnpack'",
        ),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"precision_mode": "FP8"}}),
            "tensorrt precision_mode must be one of FP32, FP16, BF16, INT8, got 'FP8'",
        ),
        (
            accelerators("gpu", {"name": "tensorrt", "parameters": {"precision": "FP16"}}),
            "the tensorrt accelerator has no parameter 'precision'",
        ),
        (
            accelerators("gpu", {"name": "cuda"}) | parameters(arena_extend_strategy="7"),
            "parameter arena_extend_strategy must be one of 0, 1, got '7'",
        ),
    ],
)
def test_providers_that_cannot_be_had_are_named(config, text):
    with pytest.raises(LoadError, match=text):
        execution_providers(config, "GPU", 0, ["CPUExecutionProvider"])
