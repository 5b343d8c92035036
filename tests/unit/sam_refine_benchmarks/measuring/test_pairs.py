from __future__ import annotations

import itertools

import pytest

from sam_refine_benchmarks.measuring import pairs
from sam_refine_benchmarks.measuring.pairs import Latest, Timing, ratio, ratio_range


class Stopwatch:
    """Time that passes only in the runs of `taking`."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def taking(self, name, *seconds):
        """An alternative whose runs take these times, then the last one for ever."""
        left = list(seconds)

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def interleave(alternatives, budget_s, clock, disturbed=()):
    """`pairs.interleave` on a machine that is disturbed at these of the times that it is asked."""
    answers = itertools.count()

    def watch():
        return lambda: next(answers) in disturbed

    return pairs.interleave(alternatives, budget_s, clock, watch)


@pytest.fixture
def clock():
    return Stopwatch()


def test_interleave_equal_alternatives_take_turns_until_the_budget_is_used(clock):
    alternatives = {name: clock.taking(name, 1.0) for name in "ab"}
    timings = interleave(alternatives, budget_s=10, clock=clock)
    assert clock.log == ["a", "b"] * 5  # one of the five to warm up
    assert timings["a"] == Timing(((1.0,),) * 4)


def test_interleave_warm_up_runs_do_not_count(clock):
    timings = interleave({"a": clock.taking("a", 5.0, 1.0)}, budget_s=20, clock=clock)
    assert set(timings["a"].runs_s) == {1.0}


def test_interleave_fast_alternative_runs_several_times_a_turn(clock):
    alternatives = {"slow": clock.taking("slow", 1.0), "fast": clock.taking("fast", 0.0625)}
    timings = interleave(alternatives, budget_s=6, clock=clock)
    assert clock.log[2:7] == ["slow", "fast", "fast", "fast", "slow"]
    assert timings["fast"].rounds_s[0] == (0.0625,) * 3


def test_interleave_fast_alternative_runs_five_times_a_turn_at_most(clock):
    alternatives = {"slow": clock.taking("slow", 1.0), "fast": clock.taking("fast", 1e-6)}
    timings = interleave(alternatives, budget_s=6, clock=clock)
    assert len(timings["fast"].rounds_s[0]) == 5


def test_interleave_short_budget_still_has_three_rounds(clock):
    alternatives = {"a": clock.taking("a", 1.0), "b": clock.taking("b", 1.0)}
    timings = interleave(alternatives, budget_s=3, clock=clock)
    assert len(timings["a"].rounds_s) == len(timings["b"].rounds_s) == 3


def test_interleave_quick_alternatives_have_twenty_five_rounds_at_most(clock):
    timings = interleave({"a": clock.taking("a", 0.001)}, budget_s=10, clock=clock)
    assert len(timings["a"].rounds_s) == 25


def test_interleave_alternative_beyond_a_third_of_the_budget_runs_once(clock):
    alternatives = {"slow": clock.taking("slow", 60.0), "fast": clock.taking("fast", 2.0, 1.0)}
    timings = interleave(alternatives, budget_s=20, clock=clock)
    assert timings["slow"] == Timing(((60.0,),), warmed_up=False)
    assert timings["fast"] == Timing(((1.0,),) * 3)


def test_interleave_disturbed_rounds_are_left_out_where_three_are_calm(clock):
    run = clock.taking("a", 1.0, 1.0, 9.0, 1.0)
    timings = interleave({"a": run}, budget_s=20, clock=clock, disturbed={2})
    assert set(timings["a"].runs_s) == {1.0}
    assert timings["a"].left_out_s == ((9.0,),)
    assert not timings["a"].disturbed


def test_interleave_goes_on_for_twice_the_budget_to_have_three_calm_rounds(clock):
    run = clock.taking("a", 1.0)
    timings = interleave({"a": run}, budget_s=5, clock=clock, disturbed={1, 2, 3, 4})
    assert len(timings["a"].left_out_s) == 4
    assert len(timings["a"].rounds_s) == 3


def test_interleave_machine_that_never_calms_down_is_told(clock):
    run = clock.taking("a", 1.0)
    timings = interleave({"a": run}, budget_s=5, clock=clock, disturbed=range(100))
    assert timings["a"].disturbed
    assert len(timings["a"].rounds_s) == 9


def test_interleave_single_run_tells_whether_it_was_disturbed(clock):
    alternatives = {"slow": clock.taking("slow", 60.0), "fast": clock.taking("fast", 1.0)}
    timings = interleave(alternatives, budget_s=20, clock=clock, disturbed={0})
    assert timings["slow"].disturbed
    assert not timings["fast"].disturbed


def test_latest_keeps_the_result_of_the_last_run():
    numbers = iter(range(5))
    run = Latest(lambda: next(numbers))
    assert [run(), run()] == [0, 1]
    assert run.result == 1


def test_latest_without_a_run_has_no_result():
    with pytest.raises(RuntimeError, match="it has not run yet"):
        _ = Latest(list).result


def test_timing_is_a_median_of_all_runs_never_a_mean():
    timing = Timing(((1.0, 2.0), (3.0, 100.0), (4.0,)))
    assert (timing.median_s, timing.lowest_s, timing.highest_s) == (3.0, 1.0, 100.0)


def test_timing_to_json_keeps_every_run():
    assert Timing(((1.0,), (3.0,))).to_json() == {
        "median_s": 2.0,
        "lowest_s": 1.0,
        "highest_s": 3.0,
        "warmed_up": True,
        "disturbed": False,
        "left_out_s": (),
        "rounds_s": ((1.0,), (3.0,)),
    }


def test_ratio_is_that_of_the_medians():
    before, after = Timing(((10.0,), (30.0,), (20.0,))), Timing(((1.0,), (2.0,), (9.0,)))
    assert ratio(before, after) == 10


def test_ratio_range_pairs_the_rounds():
    before, after = Timing(((10.0,), (30.0,), (20.0,))), Timing(((1.0,), (2.0, 6.0, 2.0), (10.0,)))
    assert ratio_range(before, after) == (2, 15)


def test_ratio_range_of_a_single_run_is_none():
    once = Timing(((10.0,),), warmed_up=False)
    assert ratio_range(once, Timing(((1.0,), (2.0,), (9.0,)))) is None
