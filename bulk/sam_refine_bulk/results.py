"""What came of one image, in the form in which it is kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from sam_refine_bulk.outputs.tars import members
from sam_refine_client import RefineResult
from sam_refine_client.files.pictures import grey_picture

_COMPRESSION: Final = 6
"""Of zlib. Beyond it label maps get hardly smaller, and twice the time goes by."""


class Reason(str, Enum):
    """Why an image failed: what the counts are kept by."""

    INPUT = "input"
    """The image, its scores or its key cannot be used: mend the input, then `retry-failed`."""
    SERVER = "server"
    """The server failed at it, several times: its log says why."""
    TIMEOUT = "timeout"
    """No answer within `--timeout-s`, several times."""
    OUTPUT = "output"
    """Its refined map cannot be a PNG."""


@dataclass(frozen=True)
class Done:
    """A refined image."""

    members: bytes
    """As they stand in the tar."""
    regions: int
    kept: int
    warnings: tuple[str, ...] = ()
    """What was doubtful about the input, and how it was taken."""


@dataclass(frozen=True)
class Failed:
    """An image without a result."""

    key: str
    reason: Reason
    message: str

    def to_json(self) -> dict[str, str]:
        return {"key": self.key, "reason": self.reason.value, "message": self.message}


Result: TypeAlias = Done | Failed


def failed_of(fact: dict[str, Any]) -> Failed:
    """The inverse of `to_json`."""
    return Failed(fact["key"], Reason(fact["reason"]), fact["message"])


def result_of(key: str, shard: str, result: RefineResult) -> Result:
    """Labels as a PNG, and what is known of it. The same for the same answer: no times, no ids."""
    labels, regions = result.labels, result.regions
    assert labels is not None
    assert regions is not None
    file = io.BytesIO()
    try:
        grey_picture(labels).save(file, format="PNG", compress_level=_COMPRESSION)
    except ValueError as error:
        return Failed(key, Reason.OUTPUT, str(error))
    kept = sum(region.kept for region in regions)
    warnings = result.warnings
    height, width = labels.shape
    facts = {"key": key, "shard": shard, "height": height, "width": width,
             "regions": len(regions), "kept": kept, "warnings": list(warnings)}  # fmt: skip
    return Done(members(key, file.getvalue(), facts), len(regions), kept, warnings)
