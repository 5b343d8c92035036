"""Times alternatives in turns (A B A B ...): a slow minute of the machine meets them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sam_refine_benchmarks.measuring.machine import watch_others

T = TypeVar("T")

LEAST_ROUNDS: Final = 3
MOST_ROUNDS: Final = 25
MOST_RUNS_A_TURN: Final = 5
_SHARE_OF_THE_SLOWEST = 0.2
"""A fast alternative runs several times a turn, for about this part of the slowest one's turn."""
_SHARE_OF_THE_BUDGET = 1 / 3
"""An alternative that needs more than this for one run is run once."""
_PATIENCE = 2
"""Times the budget, for as long as others disturb."""

Round = Mapping[str, tuple[float, ...]]
"""Seconds of every run of one round, by alternative."""


@dataclass(frozen=True)
class Timing:
    """Wall times of one alternative."""

    rounds_s: tuple[tuple[float, ...], ...]
    """Seconds of every run, by round; warm-up runs do not count."""
    warmed_up: bool = True
    """False for an alternative too slow for more than one run: its first run is all there is."""
    disturbed: bool = False
    """Whether other processes used the cores in some of these rounds."""
    left_out_s: tuple[tuple[float, ...], ...] = ()
    """Rounds that do not count because others disturbed them."""

    @property
    def runs_s(self) -> tuple[float, ...]:
        return tuple(run for runs in self.rounds_s for run in runs)

    @property
    def median_s(self) -> float:
        return statistics.median(self.runs_s)

    @property
    def lowest_s(self) -> float:
        return min(self.runs_s)

    @property
    def highest_s(self) -> float:
        return max(self.runs_s)

    def to_json(self) -> dict[str, Any]:
        return {
            "median_s": self.median_s,
            "lowest_s": self.lowest_s,
            "highest_s": self.highest_s,
            "warmed_up": self.warmed_up,
            "disturbed": self.disturbed,
            "left_out_s": self.left_out_s,
            "rounds_s": self.rounds_s,
        }


class Latest(Generic[T]):
    """A run that keeps what it returned last: what was timed can be checked afterwards."""

    def __init__(self, run: Callable[[], T]) -> None:
        self._run = run
        self._results: list[T] = []

    def __call__(self) -> T:
        self._results.clear()
        self._results.append(self._run())
        return self.result

    @property
    def result(self) -> T:
        """Raises `RuntimeError` before the first run."""
        if not self._results:
            raise RuntimeError("it has not run yet")
        return self._results[0]


def ratio(before: Timing, after: Timing) -> float:
    """How many times as long as `after` it took `before`: the ratio of the medians."""
    return before.median_s / after.median_s


def ratio_range(before: Timing, after: Timing) -> tuple[float, float] | None:
    """Lowest and highest ratio of the medians of one round; None where they share no two rounds."""
    if min(len(before.rounds_s), len(after.rounds_s)) < 2:
        return None
    ratios = [
        statistics.median(a) / statistics.median(b)
        for a, b in zip(before.rounds_s, after.rounds_s, strict=True)
    ]
    return min(ratios), max(ratios)


def interleave(
    alternatives: Mapping[str, Callable[[], object]],
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
    watch: Callable[[], Callable[[], bool]] = watch_others,
) -> dict[str, Timing]:
    """Run the alternatives in turns, for about `budget_s` seconds; timings by name.

    Each one is warmed up by one run. Rounds go on until the next would pass the budget; there are
    3 at least, whatever they take, and 25 at most. An alternative whose first run takes more than a
    third of the budget is not run again.

    `watch` starts to watch the machine and returns what tells, later, whether others disturbed it
    meanwhile. Disturbed rounds are left out where there are 3 calm ones, and to have 3 it goes on
    for up to twice the budget.
    """
    start = clock()
    first_s: dict[str, float] = {}
    first_disturbed: dict[str, bool] = {}
    for name, run in alternatives.items():
        disturbed = watch()
        first_s[name] = _time(run, clock)
        first_disturbed[name] = disturbed()
    again = [name for name in alternatives if first_s[name] <= budget_s * _SHARE_OF_THE_BUDGET]
    runs = _runs_a_turn({name: first_s[name] for name in again})
    calm: list[Round] = []
    noisy: list[Round] = []
    round_s = 0.0
    while again and len(calm) + len(noisy) < MOST_ROUNDS:
        end_s = budget_s if len(calm) >= LEAST_ROUNDS else budget_s * _PATIENCE
        if len(calm) + len(noisy) >= LEAST_ROUNDS and clock() - start + round_s > end_s:
            break
        round_start, disturbed = clock(), watch()
        turns = {
            name: tuple(_time(alternatives[name], clock) for _ in range(runs[name]))
            for name in again
        }
        round_s = clock() - round_start
        (noisy if disturbed() else calm).append(turns)
    kept, left_out = (calm, noisy) if len(calm) >= LEAST_ROUNDS else (calm + noisy, [])
    return {
        name: Timing(
            tuple(turns[name] for turns in kept),
            disturbed=len(calm) < LEAST_ROUNDS,
            left_out_s=tuple(turns[name] for turns in left_out),
        )
        if name in again
        else Timing(((first_s[name],),), warmed_up=False, disturbed=first_disturbed[name])
        for name in alternatives
    }


def _runs_a_turn(run_s: Mapping[str, float]) -> dict[str, int]:
    share_s = _SHARE_OF_THE_SLOWEST * max(run_s.values(), default=0.0)
    return {
        name: max(1, min(MOST_RUNS_A_TURN, int(share_s / max(seconds, 1e-9))))
        for name, seconds in run_s.items()
    }


def _time(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    result = run()
    end = clock()
    del result  # freeing it is not part of the run
    return end - start
