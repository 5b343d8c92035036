"""What a caller gets of a model, and what is counted."""

import json

import numpy as np
import pytest

from sam_refine.contract import (
    SAM_PREPROCESS,
    InvalidOptionError,
    InvalidRequestError,
    LimitExceededError,
)
from sam_refine.service.room import NoRoomError
from sam_refine.service.work_times import TooLateError
from sam_refine.triton.requests import (
    CancelledError,
    FailureReason,
    ModelCallError,
    answer_each,
    input_tensors,
    read_parameters,
    request_parameters,
)
from support.fake_stub import LOG, Request


def raising(error):
    def answer(request):
        raise error

    return answer


def test_answer_becomes_a_response_with_its_tensors():
    (response,) = answer_each([Request()], lambda request: {"A": np.arange(3), "B": np.ones(1)})
    assert not response.has_error()
    assert [tensor.name() for tensor in response.output_tensors] == ["A", "B"]
    np.testing.assert_array_equal(response.output_tensors[0].as_numpy(), [0, 1, 2])


@pytest.mark.parametrize(
    ("error", "code", "text", "reason"),
    [
        (InvalidRequestError("IMAGE must be"), "INVALID_ARG", "IMAGE must be", "invalid_tensor"),
        (InvalidOptionError("iou must be"), "INVALID_ARG", "iou must be", "invalid_option"),
        (LimitExceededError("at most 2"), "INVALID_ARG", "at most 2", "limit"),
        (CancelledError(), "CANCELLED", "the request was cancelled", "cancelled"),
        (ModelCallError("sam_embed: ?"), "INTERNAL", "sam_embed: ?", "model_failed"),
        (TooLateError("takes 2 s"), "UNAVAIL", "takes 2 s", "too_late"),
        (NoRoomError("needs 2 MiB"), "UNAVAIL", "needs 2 MiB", "out_of_memory"),
        (MemoryError(), "UNAVAIL", "not enough memory for this request", "out_of_memory"),
        (KeyError("/a/path"), "INTERNAL", "internal error; the server's log has it", "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_has_a_status_a_text_and_a_reason(error, code, text, reason):
    counted = []
    (response,) = answer_each([Request()], raising(error), counted.append)
    assert (response.error().code, response.error().message()) == (code, text)
    assert counted == [FailureReason(reason)]
    if reason in ("model_failed", "out_of_memory"):
        assert [f"request 'id': {reason}: {text}"] == LOG
    else:
        assert bool(LOG) == (reason == "internal")


def test_traceback_goes_to_the_log_alone():
    (response,) = answer_each([Request()], raising(KeyError("/a/path")))
    assert LOG[0].startswith("request 'id': internal: Traceback")
    assert "/a/path" in LOG[0]
    assert "/a/path" not in response.error().message()


def test_caller_s_id_cannot_write_lines_of_its_own_into_the_log():
    answer_each([Request(id_="a\nI1234 ok" + "x" * 5000)], raising(MemoryError()))
    (line,) = LOG
    assert "\n" not in line
    assert line.startswith(r"request 'a\nI1234 okx")
    assert len(line) < 250


def test_each_request_has_its_own_response_in_order():
    answers = iter([{"A": np.zeros(1)}, InvalidRequestError("no"), {"A": np.ones(1)}])

    def answer(request):
        outcome = next(answers)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    counted = []
    responses = answer_each([Request(), Request(), Request()], answer, counted.append)
    assert [response.has_error() for response in responses] == [False, True, False]
    assert counted == [FailureReason.INVALID_TENSOR]


def test_output_that_is_no_tensor_is_an_internal_error():
    (response,) = answer_each([Request()], lambda request: None)
    assert response.error().code == "INTERNAL"


def test_input_tensors_are_those_that_the_request_has():
    image = np.zeros((2, 3, 3), np.uint8)
    tensors = input_tensors(Request({"IMAGE": image, "OTHER": image}), SAM_PREPROCESS)
    assert list(tensors) == ["IMAGE"]
    assert tensors["IMAGE"] is image


@pytest.mark.parametrize(("text", "expected"), [("", {}), ('{"a": 1}', {"a": 1})])
def test_request_parameters_are_read(text, expected):
    assert request_parameters(Request(parameters_=text)) == expected


def test_request_parameters_that_are_no_text_are_refused():
    with pytest.raises(InvalidOptionError, match="parameters must be UTF-8 text"):
        request_parameters(Request(parameters_='{"a": "'))


def test_config_s_parameters_are_read():
    config = {"parameters": {"max_regions": {"string_value": "5"}}}
    assert read_parameters({"model_config": json.dumps(config)}) == {"max_regions": "5"}
    assert read_parameters({"model_config": "{}"}) == {}


def test_stub_with_numpy_2_cannot_work(monkeypatch):
    monkeypatch.setattr("numpy.__version__", "2.1.0")
    with pytest.raises(RuntimeError, match=r"install numpy<2, this is numpy 2\.1\.0"):
        read_parameters({"model_config": "{}"})
