"""Data sets of millions: shards in, shards out, each image exactly once. Never imports torch."""

from sam_refine_bulk.capacity import Plan, Workload, plan
from sam_refine_bulk.errors import (
    BulkError,
    DamagedShardError,
    NoServerError,
    OtherJobError,
    OutputError,
)
from sam_refine_bulk.inputs.source import Shard, Source
from sam_refine_bulk.state import State, state_of, verify
from sam_refine_bulk.worker import Event, Work, refine_shard, refine_shards

__all__ = [
    "BulkError",
    "DamagedShardError",
    "Event",
    "NoServerError",
    "OtherJobError",
    "OutputError",
    "Plan",
    "Shard",
    "Source",
    "State",
    "Work",
    "Workload",
    "plan",
    "refine_shard",
    "refine_shards",
    "state_of",
    "verify",
]
