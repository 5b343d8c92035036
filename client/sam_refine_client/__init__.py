"""Call a sam-refine server: `RefineClient`. Never imports torch."""

from sam_refine.contract import FailedRegions, InvalidRequestError, MaskPrompt, RefineOptions
from sam_refine_client.client import RefineClient
from sam_refine_client.errors import (
    DeadlineError,
    RefineError,
    RejectedError,
    ServerError,
    UnreachableError,
)
from sam_refine_client.result import RefineResult, Region

__all__ = [
    "DeadlineError",
    "FailedRegions",
    "InvalidRequestError",
    "MaskPrompt",
    "RefineClient",
    "RefineError",
    "RefineOptions",
    "RefineResult",
    "Region",
    "RejectedError",
    "ServerError",
    "UnreachableError",
]
