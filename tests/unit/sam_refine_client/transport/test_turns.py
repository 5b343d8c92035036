"""A deadline is divided: so long in the queue, the rest for the work."""

import time

import numpy as np
import pytest

from sam_refine.contract import SAM_EMBED, SAM_REFINE
from sam_refine_client import DeadlineError
from sam_refine_client.transport.call import Call
from sam_refine_client.transport.turns import SMALL_BYTES, Turn, Turns

NOW_S = 1000.0
SMALL = {"IMAGE": np.zeros((360, 480, 3), np.uint8)}
LARGE = {"IMAGE": np.zeros((1024, 2048, 3), np.uint8)}
ENCODED = {"ENCODED_IMAGE": np.array([bytes(SMALL_BYTES // 10)], np.object_)}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    now = [NOW_S]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def call(tensors=SMALL, deadline_s=None, model=SAM_REFINE):
    return Call(model, tensors, (), {}, "id", deadline_s, begun_s=NOW_S)


def test_half_of_an_unknown_deadline_is_for_the_work():
    assert Turns().of(call(deadline_s=NOW_S + 3)) == Turn(1, 1.5, 1.5)


def test_what_a_refusal_has_said_is_left_for_the_work_for_a_minute(clock):
    turns, known = Turns(), call(deadline_s=NOW_S + 3)
    turns.learn(known, 2.5)
    assert turns.of(known) == Turn(1, 0.5, 2.5)
    assert turns.of(call(LARGE, NOW_S + 3)) == Turn(2, 1.5, 1.5), "a larger one's work is not known"
    clock[0] += 61
    assert turns.of(call(deadline_s=clock[0] + 3)) == Turn(1, 1.5, 1.5)


def test_work_that_needs_all_of_the_time_waits_a_moment_only():
    turns, known = Turns(), call(deadline_s=NOW_S + 1)
    turns.learn(known, 1.2)
    assert turns.of(known) == Turn(1, 0.05, pytest.approx(0.95))
    assert turns.is_too_late(known, 1.2)
    assert not turns.is_too_late(known, 0.9)


def test_call_without_a_deadline_waits_as_long_as_the_server_lets_it():
    assert Turns().of(call()) == Turn(1)
    assert Turns().of(call()).arguments() == {"priority": 1}
    assert Turns().of(call()).parameters() == {}


@pytest.mark.parametrize(
    ("tensors", "priority"), [(SMALL, 1), (LARGE, 2), (ENCODED, 1), ({**ENCODED, **LARGE}, 2)]
)
def test_small_calls_come_first(tensors, priority):
    assert Turns().of(call(tensors)).priority == priority


@pytest.mark.parametrize(("timeout_s", "later_s"), [(10, 5.5), (None, 31)])
def test_large_call_that_has_waited_becomes_urgent(clock, timeout_s, later_s):
    large = call(LARGE, None if timeout_s is None else NOW_S + timeout_s)
    assert Turns().of(large).priority == 2
    clock[0] += later_s
    assert Turns().of(large).priority == 1


def test_arguments_are_triton_s():
    assert Turn(2, 1.5, 0.5).arguments() == {"priority": 2, "timeout": 1_500_000}
    assert Turn(2, 0.0, 0.5).arguments() == {"priority": 2, "timeout": 1}, "0 would be for ever"
    assert Turn(2, 1.5, 0.5).parameters() == {"work_time_s": 0.5}


def test_other_models_know_no_turns():
    assert Turns().of(call(model=SAM_EMBED, deadline_s=NOW_S + 3)) == Turn()


def test_passed_deadline_has_no_turn():
    with pytest.raises(DeadlineError):
        Turns().of(call(deadline_s=NOW_S - 1))
