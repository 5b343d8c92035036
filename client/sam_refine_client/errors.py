"""What can go wrong in a call, by gRPC status.

RefineError
├── RejectedError      the request breaks a rule; sending it again will not help
├── UnreachableError   no server there, or it ends or has no room; sending it again may help
├── DeadlineError      the caller's own deadline passed
└── ServerError        the server failed at this request
"""

from __future__ import annotations

from sam_refine.contract import InvalidRequestError


class RefineError(Exception):
    """A call to the server did not succeed."""


class RejectedError(RefineError, InvalidRequestError):
    """The server refuses the request: one sentence with field, rule and what came."""


class UnreachableError(RefineError):
    """There is no server at the address, or it cannot take the request now."""


class DeadlineError(RefineError):
    """`timeout_s` passed before the answer came."""


class ServerError(RefineError):
    """The server failed at this request; its log says why."""


_BY_STATUS: dict[str, type[RefineError]] = {
    "INVALID_ARGUMENT": RejectedError,
    "NOT_FOUND": RejectedError,
    "UNAVAILABLE": UnreachableError,
    "DEADLINE_EXCEEDED": DeadlineError,
}


def error_of(status: str | None, text: str) -> RefineError:
    """The error for a gRPC status such as "StatusCode.UNAVAILABLE", or for none."""
    code = (status or "").removeprefix("StatusCode.")
    return _BY_STATUS.get(code, ServerError)(text)
