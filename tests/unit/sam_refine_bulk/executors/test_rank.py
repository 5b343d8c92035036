"""Which share a process has, by what the cluster tells it."""

from __future__ import annotations

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk.executors.rank import Rank, rank_of

SLURM = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1",
         "SLURM_ARRAY_TASK_STEP": "2"}  # fmt: skip
KUBERNETES = {"JOB_COMPLETION_INDEX": "5", "WORLD_SIZE": "8"}


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, (), (0, 1)),
        ({}, (2, 5), (2, 5)),
        (KUBERNETES, (), (5, 8)),
        ({"JOB_COMPLETION_INDEX": "5"}, (None, 9), (5, 9)),
        (SLURM, (), (3, 4)),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "3"}, (), (0, 3)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (), (1, 2)),
        (KUBERNETES, (0, 2), (0, 2)),
    ],
)
def test_rank_is_what_the_cluster_says_and_arguments_before_it(environment, arguments, expected):
    found = rank_of(environment, *arguments)
    assert (found.rank, found.world_size) == expected


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({"JOB_COMPLETION_INDEX": "5"}, (), "say with --world-size"),
        ({"JOB_COMPLETION_INDEX": "x", "WORLD_SIZE": "8"}, (), "must be a number, got 'x'"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, (), "SLURM_ARRAY_TASK_COUNT must be a number, got None"),
        ({}, (1, None), "--rank goes with --world-size"),
        ({}, (None, 3), "--world-size goes with --rank"),
        ({}, (3, 3), r"must be in \[0, 2\], got 3 \(--rank\)"),
    ],
)
def test_rank_that_cannot_be_is_refused(environment, arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        rank_of(environment, *arguments)


@pytest.mark.parametrize("world_size", [1, 3, 10, 25])
def test_each_shard_is_in_one_share(world_size):
    shards = list(range(20))
    shares = [Rank(rank, world_size, "").share(shards) for rank in range(world_size)]
    assert sorted(each for share in shares for each in share) == shards
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
