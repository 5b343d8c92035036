"""The formula of `plan`, held against a simulation of machines that are taken away."""

from __future__ import annotations

import heapq
import random

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk import Workload, plan
from sam_refine_bulk.capacity import useful_share


def simulated_s(workload, machines, seed):
    """When the last image is done: machines take shards, and lose them at preemptions.

    A machine that is preempted comes back after `start_s`; the rest of its shard, less the parts
    that are committed, waits for whoever is free first.
    """
    chance = random.Random(seed)
    rate = workload.images_per_s * workload.busy
    part, shard = workload.images_of_a_part, workload.images_of_a_shard
    waiting = [shard] * (workload.images // shard)
    if rest := workload.images % shard:
        waiting.append(rest)

    def lifetime():
        per_s = workload.preemptions_per_h / 3600
        return chance.expovariate(per_s) if per_s else float("inf")

    free = [(workload.start_s, lifetime()) for _ in range(machines)]
    heapq.heapify(free)
    ended_s, idle = 0.0, []
    running = []  # (when it ends, images left then, life left then)
    while waiting or running:
        if waiting and (free or idle):
            if idle:
                now, life = idle.pop()
            else:
                now, life = heapq.heappop(free)
            if running and running[0][0] < now:
                heapq.heappush(free, (now, life))
            else:
                images = waiting.pop()
                needed = images / rate
                if life >= needed:
                    heapq.heappush(running, (now + needed, 0, life - needed))
                else:
                    whole = int(life * rate // part) * part
                    heapq.heappush(running, (now + life, images - whole, -1.0))
                continue
        now, left, life = heapq.heappop(running)
        if life < 0:
            waiting.append(left)
            heapq.heappush(free, (now + workload.start_s, lifetime()))
        else:
            ended_s = max(ended_s, now)
            heapq.heappush(free, (now, life))
    return ended_s


@pytest.mark.parametrize(
    ("preemptions_per_h", "part", "start_s"),
    [(0.0, 256, 120.0), (0.1, 256, 120.0), (1.0, 256, 120.0), (4.0, 256, 300.0), (2.0, 1000, 60.0)],
)
def test_plan_foretells_a_thousand_machines_that_are_taken_away(preemptions_per_h, part, start_s):
    workload = Workload(
        images=20_000_000,
        deadline_h=1.6,
        images_per_s=5.0,
        preemptions_per_h=preemptions_per_h,
        start_s=start_s,
        busy=0.95,
        images_of_a_part=part,
        images_of_a_shard=1000,
    )
    found = plan(workload)
    assert 700 < found.machines < 2000
    hours = simulated_s(workload, found.machines, seed=7) / 3600
    assert hours <= workload.deadline_h
    assert hours == pytest.approx(found.hours, rel=0.05)
    fewer = simulated_s(workload, round(found.machines * 0.93), seed=7) / 3600
    assert fewer > workload.deadline_h * 0.97  # so the number is not far too high


def test_without_preemptions_all_time_is_useful_and_with_rare_ones_nearly_all():
    assert useful_share(0, 120, 256, 20) == 1
    assert useful_share(1e-9, 120, 256, 20) == pytest.approx(1, abs=1e-6)
    assert useful_share(60, 0, 10_000, 1) == pytest.approx(0, abs=1e-6)
    assert useful_share(1e9, 120, 256, 20) == 0


def test_useful_share_is_that_of_a_machine_that_is_preempted_ten_thousand_times():
    chance, part_s, start_s, per_h = random.Random(1), 50.0, 120.0, 6.0
    done = total = 0.0
    for _ in range(10_000):
        life = chance.expovariate(per_h / 3600)
        done += life // part_s * part_s
        total += life + start_s
    assert done / total == pytest.approx(useful_share(per_h, start_s, 500, 10), rel=0.02)


def test_numbers_by_hand():
    found = plan(Workload(images=7200, deadline_h=2, images_per_s=1, price_per_h=3, start_s=0,
                          busy=1, images_of_a_shard=36, bytes_per_image=1e6))  # fmt: skip
    assert found.machines == 2  # 7164 seconds, less than 7200 for one machine
    assert found.shards == 200
    assert found.network_bytes_per_s == 2e6
    assert found.hours == pytest.approx(1 + 18 / 3600)
    assert found.cost == pytest.approx(2 * found.hours * 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 0}, "images must be a number > 0, got 0"),
        ({"deadline_h": -1.0}, "deadline_h must be a number > 0"),
        ({"deadline_h": float("inf")}, "deadline_h must be a number > 0, got inf"),
        ({"images_per_s": float("inf")}, "images_per_s must be a number > 0"),
        ({"images_per_s": float("nan")}, "images_per_s must be a number > 0"),
        ({"preemptions_per_h": float("inf")}, "preemptions_per_h must be a number >= 0"),
        ({"busy": 1.1}, r"busy must be in \(0, 1\], got 1\.1"),
        ({"price_per_h": -1.0}, "price_per_h must be a number >= 0"),
        ({"deadline_h": 0.01}, "the deadline must be later"),
        ({"preemptions_per_h": 1e6}, "the deadline must be later"),
    ],
)
def test_workload_that_cannot_be_is_refused(values, message):
    with pytest.raises(InvalidRequestError, match=message):
        plan(Workload(**{"images": 1000, "deadline_h": 1.0, "images_per_s": 10.0, **values}))
