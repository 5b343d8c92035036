"""Requests per second with one, two and four callers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sam_refine_benchmarks.measuring.pairs import Timing, interleave, ratio, ratio_range
from sam_refine_benchmarks.measuring.results import Figure, Result, Series, at_least_claim
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import server
from sam_refine_benchmarks.sides.scenes import SMALL, refine_unseen
from sam_refine_client import RefineClient

CALLERS = (1, 2, 4)
LEAST_SHARE = 0.95


def run(setting: Setting) -> Result:
    """The same number of requests for each number of callers, in turns."""
    requests = 4 if setting.quick else 12
    with server.running(setting.model_repository) as running:
        address = running.grpc_address
        timings = interleave(
            {
                str(callers): lambda callers=callers: send(address, callers, requests)  # type: ignore[misc]
                for callers in CALLERS
            },
            setting.budget_s(80, 12),
        )
    one = timings["1"]
    claims = tuple(
        at_least_claim(
            f"{callers} callers at once, {SMALL.size}, requests/s",
            f"{per_second(one, requests):.2f} by one",
            f"{per_second(timings[str(callers)], requests):.2f}",
            ratio(one, timings[str(callers)]),
            LEAST_SHARE if callers == 4 else None,
            ratio_range(one, timings[str(callers)]),
        )
        for callers in CALLERS[1:]
    )
    figure = Figure(
        "throughput",
        f"Throughput, {SMALL.size}",
        "callers at once",
        "requests per second",
        (
            Series(
                "ours",
                CALLERS,
                tuple(per_second(timings[str(n)], requests) for n in CALLERS),
                tuple(requests / timings[str(n)].highest_s for n in CALLERS),
                tuple(requests / timings[str(n)].lowest_s for n in CALLERS),
            ),
        ),
    )
    data = {
        "requests_a_run": requests,
        "timings": {name: timing.to_json() for name, timing in timings.items()},
    }
    return Result(claims=claims, data=data, figures=(figure,))


def send(address: str, callers: int, requests: int) -> None:
    """`requests` calls in all, shared out to callers with a client each."""
    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(_call, address, requests // callers) for _ in range(callers)]:
            done.result()


def per_second(timing: Timing, requests: int) -> float:
    return requests / timing.median_s


def _call(address: str, times: int) -> None:
    with RefineClient(address) as client:
        call = refine_unseen(client, SMALL)
        for _ in range(times):
            call()
