"""What can go wrong with a job, beyond one image.

BulkError
├── OtherJobError       the output folder belongs to another job, or to something else
├── DamagedShardError   an input shard cannot be read to its end; the others go on
├── OutputError         nothing more can be written; the same command goes on later
└── NoServerError       no server answers, or it lets nobody in; the same command goes on later
"""

from __future__ import annotations


class BulkError(Exception):
    """A job, or a shard of it, cannot go on. Nothing that was committed is lost."""


class OtherJobError(BulkError):
    """The output folder belongs to another job, or to something else."""


class DamagedShardError(BulkError):
    """An input shard cannot be read to its end; it is tried again by the next run."""


class OutputError(BulkError):
    """The output cannot be written: a full disk, a folder that is read only."""


class NoServerError(BulkError):
    """No server answers for too long, or it lets nobody in."""
