"""Call a sam-refine server: `RefineClient`, `AsyncRefineClient`. Never imports torch."""

from sam_refine.contract import (
    FailedRegions,
    InvalidRequestError,
    Limits,
    MaskPrompt,
    RefineOptions,
)
from sam_refine_client.client import AsyncRefineClient, RefineClient
from sam_refine_client.connection import ConnectionOptions, Keepalive, Retries, SharedMemoryUse, Tls
from sam_refine_client.embedding import Embedding
from sam_refine_client.errors import (
    CancelledError,
    DeadlineError,
    ForbiddenError,
    OverloadedError,
    ProtocolError,
    RefineError,
    RejectedError,
    ServerError,
    UnreachableError,
)
from sam_refine_client.health import Health
from sam_refine_client.info import ModelInfo, ModelState, ServerInfo
from sam_refine_client.many import Outcome
from sam_refine_client.request import Activation, ScoresDtype
from sam_refine_client.result import RefineResult, Region
from sam_refine_client.saving import SaveFormat

__all__ = [
    "Activation",
    "AsyncRefineClient",
    "CancelledError",
    "ConnectionOptions",
    "DeadlineError",
    "Embedding",
    "FailedRegions",
    "ForbiddenError",
    "Health",
    "InvalidRequestError",
    "Keepalive",
    "Limits",
    "MaskPrompt",
    "ModelInfo",
    "ModelState",
    "Outcome",
    "OverloadedError",
    "ProtocolError",
    "RefineClient",
    "RefineError",
    "RefineOptions",
    "RefineResult",
    "Region",
    "RejectedError",
    "Retries",
    "SaveFormat",
    "ScoresDtype",
    "ServerError",
    "ServerInfo",
    "SharedMemoryUse",
    "Tls",
    "UnreachableError",
]
