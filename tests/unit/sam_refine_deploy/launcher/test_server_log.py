from __future__ import annotations

from sam_refine_deploy.launcher.server_log import failure_reason

HARMLESS = """\
W1122 23:41:43.7 6001 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1122 23:41:41.7 6001 server.cc:241] "CudaDriverHelper has not been initialized."
E1122 23:41:41.8 6001 ensemble_scheduler.cc:1468] "unable to create stream for ens: CUDA driver"
Error: Failed to initialize NVML
"""
LOAD_FAILURE = (
    "E1122 23:41:43.345089 6001 model_lifecycle.cc:642] \"failed to load 'enc' version 1: "
    "Internal: RuntimeError: input 'x' differs,\\nin two ways\\n\\nAt:\\n  "
    '/srv/backends/onnxruntime/model.py(11): initialize\\n"\n'
)


def test_reason_of_models_that_did_not_load_is_each_of_them_once():
    missing = (
        "E1122 23:44:13.1 6526 model_lifecycle.cc:642] \"failed to load 'm' version 1: Invalid "
        "argument: unable to find backend library for backend 'nope'\"\n"
    )
    end = "error: creating server: Internal - failed to load all models\n"
    assert failure_reason(HARMLESS + LOAD_FAILURE + missing + LOAD_FAILURE + end) == (
        "enc: input 'x' differs, in two ways\nm: unable to find backend library for backend 'nope'"
    )


def test_reason_of_configuration_that_cannot_be_read_is_the_place_in_it():
    log = (
        "[libprotobuf ERROR /build/text_format.cc:337] Error parsing text-format "
        'inference.ModelConfig: 2:16: has no field named "x".\n'
        'E1122 23:44:12.0 6503 model_repository_manager.cc:1460] "Poll failed for model '
        "directory 'm': failed to read text proto from m/config.pbtxt\"\n"
    )
    assert failure_reason(HARMLESS + log) == (
        'Error parsing text-format inference.ModelConfig: 2:16: has no field named "x".\n'
        "Poll failed for model directory 'm': failed to read text proto from m/config.pbtxt"
    )


def test_reason_without_model_failures_is_the_errors():
    log = (
        'E1122 23:44:14.2 6575 main.cc:245] "failed to start GRPC service: Unavailable - Socket '
        "'127.0.0.1:19001' already in use \"\n"
        "/opt/bin/tritonserver: unrecognized option '--x'\n"
    )
    assert failure_reason(HARMLESS + log) == (
        "failed to start GRPC service: Unavailable - Socket '127.0.0.1:19001' already in use\n"
        "unrecognized option '--x'"
    )


def test_reason_without_errors_is_the_end_without_tables():
    log = "\n".join(f"I1122 line {number}" for number in range(20)) + "\n+---+\n| a |\n+---+\n\n"
    assert failure_reason(log).splitlines() == [f"I1122 line {number}" for number in range(10, 20)]


def test_reason_is_short():
    long = LOAD_FAILURE.replace("differs", "differs " * 500)
    assert len(failure_reason(long)) == 500


def test_reason_of_an_empty_log_says_so():
    assert failure_reason("") == "its log is empty"


def test_reason_of_a_server_that_aborted_is_its_exception_and_not_its_stack():
    stack = "Signal (6) received.\n 0# 0x0000559A in /srv/tritonserver\n12# 0x0000 in libc.so.6\n"
    started = "I1122 23:44:13.1 6526 grpc_server.cc:2558] Started\n"
    thrown = "terminate called after throwing an instance of 'std::length_error'\n"
    text = "  what():  vector::_M_default_append\n"
    assert failure_reason(started + thrown + text + stack) == (
        "std::length_error: vector::_M_default_append"
    )
    assert failure_reason(started + thrown + stack) == "std::length_error"
    assert failure_reason(stack) == "Signal (6) received."
