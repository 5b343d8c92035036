"""Which share of the shards a process has, where a cluster starts many of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sam_refine.contract import InvalidRequestError

T = TypeVar("T")


@dataclass(frozen=True)
class Rank:
    """One of `world_size` processes, from 0."""

    rank: int
    world_size: int
    of: str
    """What says so."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise InvalidRequestError(
                f"the rank must be in [0, {self.world_size - 1}], got {self.rank} ({self.of})"
            )

    def share(self, shards: Sequence[T]) -> list[T]:
        """Every `world_size`-th shard. Each shard is in one rank's share."""
        return list(shards[self.rank :: self.world_size])


_KUBERNETES: Final = "JOB_COMPLETION_INDEX"
_SLURM: Final = "SLURM_ARRAY_TASK_ID"


def rank_of(
    environment: Mapping[str, str], rank: int | None = None, world_size: int | None = None
) -> Rank:
    """From the arguments, else of a Kubernetes Indexed Job, a Slurm array, torchrun; else 0 of 1.

    An Indexed Job tells each pod its index, not how many there are: `world_size` or the variable
    WORLD_SIZE must. Raises `InvalidRequestError` where one of the two is missing.
    """
    if rank is not None:
        if world_size is None:
            raise InvalidRequestError("--rank goes with --world-size")
        return Rank(rank, world_size, "--rank")
    if _KUBERNETES in environment:
        if world_size is None and "WORLD_SIZE" not in environment:
            raise InvalidRequestError(
                f"{_KUBERNETES} is set, so this is a pod of an Indexed Job: say with --world-size, "
                "or the variable WORLD_SIZE, how many there are (its spec.completions)"
            )
        count = world_size or _number(environment, "WORLD_SIZE")
        return Rank(_number(environment, _KUBERNETES), count, _KUBERNETES)
    if _SLURM in environment:
        first = _number(environment, "SLURM_ARRAY_TASK_MIN", "0")
        between = _number(environment, "SLURM_ARRAY_TASK_STEP", "1")
        count = world_size or _number(environment, "SLURM_ARRAY_TASK_COUNT")
        return Rank((_number(environment, _SLURM) - first) // between, count, _SLURM)
    if "RANK" in environment and (world_size or "WORLD_SIZE" in environment):
        count = world_size or _number(environment, "WORLD_SIZE")
        return Rank(_number(environment, "RANK"), count, "RANK")
    if world_size is not None and world_size != 1:
        raise InvalidRequestError("--world-size goes with --rank")
    return Rank(0, 1, "no cluster")


def _number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text or "")
    except ValueError as error:
        raise InvalidRequestError(f"{name} must be a number, got {text!r}") from error
