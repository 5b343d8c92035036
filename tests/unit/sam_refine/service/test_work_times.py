"""No work is begun that would come too late; what was measured long ago wears off."""

import time

import pytest

from sam_refine.contract.serving.turns import needed_s, too_late
from sam_refine.service.work_times import TooLateError, WorkTimes, size_class

SMALL, LARGE = "small", "large"


def times_of(kind, *seconds, monkeypatch):
    """What is known after work that took so long."""
    times = WorkTimes()
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for taken_s in seconds:
        with times.within(None, kind):
            clock[0] += taken_s
    return times


def test_unknown_work_is_tried(monkeypatch):
    times = times_of(LARGE, 5, monkeypatch=monkeypatch)
    with times.within(0.001, SMALL):
        pass


def test_work_that_is_known_to_take_longer_is_refused_with_the_time_it_needs(monkeypatch):
    times = times_of(SMALL, 2, 3, monkeypatch=monkeypatch)  # 2 + 0.3 * (3 - 2)
    with pytest.raises(TooLateError) as raised, times.within(2.0, SMALL):
        pytest.fail("it was begun")
    assert str(raised.value) == "the work takes about 2.300 s, but work_time_s leaves 2.000 s"
    with times.within(2.5, SMALL), times.within(None, SMALL):
        pass


def test_refusals_wear_off(monkeypatch):
    times = times_of(SMALL, 10, monkeypatch=monkeypatch)
    refusals = 0
    while True:
        try:
            with times.within(1.0, SMALL):
                break
        except TooLateError:
            refusals += 1
    assert refusals == 22  # the first of 10 * 0.9**n that is at most 1


def test_work_that_fails_does_not_count(monkeypatch):
    times = times_of(SMALL, 1, monkeypatch=monkeypatch)
    with pytest.raises(KeyError), times.within(None, SMALL):
        raise KeyError
    with times.within(1.0, SMALL):
        pass


@pytest.mark.parametrize(
    ("size", "other", "is_same"),
    [
        ((360, 480), (480, 360), True),
        ((360, 480), (380, 480), True),
        ((360, 480), (1024, 2048), False),
        ((1, 1), (16384, 16384), False),
    ],
)
def test_size_class_has_images_of_about_the_same_work(size, other, is_same):
    assert (size_class(size) == size_class(other)) == is_same


def test_needed_time_is_read_from_the_refusal_and_from_no_other_text():
    assert needed_s(f"[request id: x] sam_refine: {too_late(1.25, 0.5)}") == 1.25
    assert needed_s("Exceeds maximum queue size") is None
    assert needed_s(None) is None
