"""Goodput: answers in time, a second, where four times as much comes as the server can do."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sam_refine_benchmarks.measuring.results import Result, at_least_claim
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, server
from sam_refine_benchmarks.sides.scenes import SMALL
from sam_refine_client import RefineClient, RefineError

Call = Callable[[float], bool]
"""A call with a deadline in seconds, and whether it was answered."""

CALLERS = 2
"""That have an answer at the best rate: as many as the server works on at a time."""
LOAD = 4
DEADLINES_S = (1.0, 5.0)
LEAST_SHARE = 0.8


def run(setting: Setting) -> Result:
    """The best rate and the goodput in turns, so that other work on the machine meets both."""
    turns, turn_s = (1, 10.0) if setting.quick else (4, 30.0)
    image, scores = SMALL.image(), SMALL.scores()
    best, good, refused = [], [], []
    with (
        server.running(setting.model_repository) as running,
        RefineClient(running.grpc_address) as client,
    ):

        def is_answered(timeout_s: float) -> bool:
            try:
                client.refine(
                    inputs.unseen(image), logits=scores, options=SMALL.options, timeout_s=timeout_s
                )
            except RefineError:
                return False
            return True

        for turn in range(turns):
            best.append(_best_rate(is_answered, turn_s))
            answered, sent = _flooded(is_answered, LOAD * best[-1], turn_s, seed=turn)
            good.append(answered / turn_s)
            refused.append(1 - answered / sent)
    shares = [reached / rate for rate, reached in zip(best, good, strict=True)]
    middle = sorted(range(turns), key=shares.__getitem__)[turns // 2]
    claim = at_least_claim(
        f"{LOAD} times the load, deadlines of {DEADLINES_S[0]:g} to {DEADLINES_S[1]:g} s, "
        f"{SMALL.size}, answers in time/s",
        f"{best[middle]:.2f} at the best load",
        f"{good[middle]:.2f}",
        shares[middle],
        LEAST_SHARE,
        (min(shares), max(shares)),
    )
    data = {"best_rates": best, "goodputs": good, "refused_shares": refused, "turn_s": turn_s}
    return Result(claims=(claim,), data=data)


def _best_rate(is_answered: Call, seconds: float) -> float:
    """Answers a second to callers who wait for one before they ask for the next."""
    end_s = time.monotonic() + seconds

    def calls() -> int:
        count = 0
        while time.monotonic() < end_s:
            count += is_answered(60.0)
        return count

    started_s = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        answered = sum(done.result() for done in [pool.submit(calls) for _ in range(CALLERS)])
    return answered / (time.monotonic() - started_s)


def _flooded(is_answered: Call, rate: float, seconds: float, *, seed: int) -> tuple[int, int]:
    """Answered, and sent: calls that come at random, `rate` a second, whatever becomes of them."""
    chance = random.Random(seed)
    arrivals = itertools.accumulate(chance.expovariate(rate) for _ in itertools.count())
    started_s = time.monotonic()
    calls = []
    with ThreadPoolExecutor(int(rate * DEADLINES_S[1]) + 1) as pool:
        for arrival_s in itertools.takewhile(lambda at: at < seconds, arrivals):
            time.sleep(max(0.0, started_s + arrival_s - time.monotonic()))
            calls.append(pool.submit(is_answered, chance.uniform(*DEADLINES_S)))
        return sum(call.result() for call in calls), len(calls)
