"""Call a sam-refine server: `RefineClient`, `AsyncRefineClient`. Never imports torch."""

from sam_refine.contract import (
    FailedRegions,
    InvalidRequestError,
    Limits,
    MaskPrompt,
    RefineOptions,
)
from sam_refine_client.client import AsyncRefineClient, RefineClient
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
from sam_refine_client.files.saving import SaveFormat
from sam_refine_client.many import Outcome
from sam_refine_client.reading.palettes import PALETTES
from sam_refine_client.reading.scores import Activation
from sam_refine_client.request import ScoresDtype
from sam_refine_client.result import RefineResult, Region
from sam_refine_client.status.health import Health
from sam_refine_client.status.info import ModelInfo, ModelState, ServerInfo
from sam_refine_client.transport.connection import (
    ConnectionOptions,
    Keepalive,
    Retries,
    SharedMemoryUse,
    Tls,
)

__all__ = [
    "PALETTES",
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
