"""How many machines a data set needs, for how long, and what that costs.

A machine works until it is preempted, at a constant rate of so many times an hour, and is back
after `start_s`. It commits every part, which takes tau seconds; what it had of a part that it did
not end is lost. Of an exponential time with rate p, the expected number of whole parts is
1 / (exp(p tau) - 1), so that the share of the time that does useful work, renewal after renewal, is

    u = tau / (exp(p tau) - 1) / (1 / p + start_s),    u = 1 where p = 0

and machines = images / (time * rate * busy * u), the time being the deadline less the first start
and the last shard, which one machine ends while the others have nothing left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sam_refine.contract import InvalidRequestError


@dataclass(frozen=True)
class Workload:
    """What is to be done, and what was measured. Times in seconds but where the name says hours."""

    images: int
    deadline_h: float
    images_per_s: float
    """Of one machine, measured with images of this size and this model."""
    price_per_h: float = 0.0
    """Of one machine."""
    preemptions_per_h: float = 0.0
    """Of one machine: how often it is taken away."""
    start_s: float = 120.0
    """Until a new machine works: found, image pulled, models loaded."""
    busy: float = 0.95
    """The share of `images_per_s` that a bulk run reaches."""
    images_of_a_part: int = 256
    images_of_a_shard: int = 1000
    bytes_per_image: float = 2.8e6
    """Image and scores, as they are read, or sent."""

    def __post_init__(self) -> None:
        for name in ("images", "deadline_h", "images_per_s", "images_of_a_part",
                     "images_of_a_shard"):  # fmt: skip
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidRequestError(f"{name} must be a number > 0, got {getattr(self, name)}")
        for name in ("price_per_h", "preemptions_per_h", "start_s", "bytes_per_image"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidRequestError(
                    f"{name} must be a number >= 0, got {getattr(self, name)}"
                )
        if not 0 < self.busy <= 1:
            raise InvalidRequestError(f"busy must be in (0, 1], got {self.busy}")


@dataclass(frozen=True)
class Plan:
    """What the workload takes."""

    machines: int
    hours: float
    """From the first start to the last shard."""
    cost: float
    """Of all machines for all hours, preempted or not."""
    useful: float
    """u: the share of the time that is not start, nor computed again."""
    network_bytes_per_s: float
    """Of all machines together, while all work."""
    shards: int

    @property
    def shards_per_machine(self) -> float:
        """Below 10 the machines end at different times: make smaller shards."""
        return self.shards / self.machines


def useful_share(
    preemptions_per_h: float, start_s: float, images_of_a_part: int, images_per_s: float
) -> float:
    """u of the formula above."""
    if preemptions_per_h == 0:
        return 1.0
    per_s = preemptions_per_h / 3600
    tau_s = images_of_a_part / images_per_s
    if per_s * tau_s > 700:  # beyond what exp can say
        return 0.0
    return tau_s / math.expm1(per_s * tau_s) / (1 / per_s + start_s)


def plan(workload: Workload) -> Plan:
    """The fewest machines that meet the deadline. Raises `InvalidRequestError` where none do."""
    rate = workload.images_per_s * workload.busy
    useful = useful_share(
        workload.preemptions_per_h, workload.start_s, workload.images_of_a_part, rate
    )
    deadline_s = workload.deadline_h * 3600
    least_s = workload.start_s + _last_shard_s(workload, rate * useful)
    if least_s >= deadline_s:
        raise InvalidRequestError(
            f"the deadline must be later: a machine's start and one shard alone take "
            f"{least_s / 3600:.2g} hours, got {workload.deadline_h:g}; smaller shards or parts, or "
            "machines that are not preempted, need less"
        )
    machines = math.ceil(workload.images / ((deadline_s - least_s) * rate * useful))
    # a machine alone has nobody to wait for
    tail_s = _last_shard_s(workload, rate * useful) * (1 - 1 / machines)
    work_s = workload.images / (machines * rate * useful)
    hours = (workload.start_s + tail_s + work_s) / 3600
    return Plan(
        machines,
        hours,
        machines * hours * workload.price_per_h,
        useful,
        machines * rate * workload.bytes_per_image,
        math.ceil(workload.images / workload.images_of_a_shard),
    )


def _last_shard_s(workload: Workload, useful_rate: float) -> float:
    if useful_rate == 0:
        return math.inf
    return min(workload.images_of_a_shard, workload.images) / useful_rate
