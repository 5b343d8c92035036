"""No work is begun that would come too late; what was measured long ago wears off."""

import time

import pytest

from sam_refine.contract.serving.turns import needed_s, too_late
from sam_refine.service.work_times import TooLateError, WorkTimes, size_class

SMALL, LARGE = "small", "large"


@pytest.fixture
def clock(monkeypatch):
    """Seconds in a list, which a test moves on."""
    seconds = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def times_of(kind, *seconds, clock):
    """What is known after work that took so long."""
    times = WorkTimes()
    for taken_s in seconds:
        with times.within(None, kind):
            clock[0] += taken_s
    return times


def is_begun(times, kind, work_time_s):
    try:
        with times.within(work_time_s, kind):
            return True
    except TooLateError:
        return False


def test_unknown_work_is_tried(clock):
    times = times_of(LARGE, 5, clock=clock)
    with times.within(0.001, SMALL):
        pass


def test_work_that_is_known_to_take_longer_is_refused_with_the_time_it_needs(clock):
    times = times_of(SMALL, 2, 3, clock=clock)  # 2 + 0.3 * (3 - 2), and 0.3 * 1 from that
    with pytest.raises(TooLateError) as raised, times.within(2.5, SMALL):
        pytest.fail("it was begun")
    assert str(raised.value) == "the work takes about 2.600 s, but work_time_s leaves 2.500 s"
    with times.within(2.7, SMALL), times.within(None, SMALL):
        pass


def test_work_that_takes_now_more_now_less_is_given_more_than_its_mean(clock):
    steady = times_of(SMALL, *[2.0] * 40, clock=clock)
    unsteady = times_of(SMALL, *[1.0, 3.0] * 20, clock=clock)
    assert is_begun(steady, SMALL, 2.01)
    assert not is_begun(unsteady, SMALL, 3.0)
    assert is_begun(unsteady, SMALL, 3.5)


def test_refusals_wear_off_what_is_old(clock):
    times = times_of(SMALL, 10, clock=clock)
    clock[0] += 10.1
    refusals = 0
    while not is_begun(times, SMALL, 1.0):
        refusals += 1
    assert refusals == 22  # the first of 10 * 0.9**n that is at most 1


def test_refusals_leave_what_was_measured_a_moment_ago(clock):
    """Those of a long queue come all at once: the next call would be begun too late."""
    times = times_of(SMALL, 10, clock=clock)
    clock[0] += 9.9
    assert not any(is_begun(times, SMALL, 9.0) for _ in range(100))


def test_work_that_fails_does_not_count(clock):
    times = times_of(SMALL, 1, clock=clock)

    def fail():
        with times.within(None, SMALL):
            clock[0] += 60
            raise KeyError

    with pytest.raises(KeyError):
        fail()
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
