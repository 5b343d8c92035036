"""What can go wrong in a call.

RefineError
├── RejectedError      the request breaks a rule; sending it again will not help
├── ForbiddenError     the server, or a gateway in front of it, does not let this caller in
├── UnreachableError   no server answers at the address; sending it again may help
├── OverloadedError    the server is there but cannot take the request now; later it may
├── DeadlineError      the caller's own deadline passed
├── CancelledError     the call was cancelled, by the caller or on the way
├── ServerError        the server failed at this request
└── ProtocolError      what answers is not a server of this version of sam-refine

The gRPC status decides which one it is, in one place: `error_of`. Where there is no other sign, the
text does: for a restricted protocol, for a server that heals, ends or has no room, and for what
answers in a server's place: a gateway, a proxy, a port of HTTP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sam_refine.contract import InvalidRequestError
from sam_refine.contract.serving.turns import is_busy, needed_s
from sam_refine.contract.serving.unavailable import has_no_room, is_healing

UNAVAILABLE: Final = "StatusCode.UNAVAILABLE"
"""The only status after which a call is made again: it did not arrive, or was not begun."""
OUTCOME_UNKNOWN: Final = frozenset(
    {UNAVAILABLE, "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED"}
)
"""Statuses that do not tell whether the server did, or is still doing, the work."""


class RefineError(Exception):
    """A call did not succeed."""

    advice = ""
    """What to do about it."""

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        request_id: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if advice is not None:
            self.advice = advice
        self.model = model
        """The Triton model that was called."""
        self.request_id = request_id
        """The request's name in the server's log and traces."""

    def __str__(self) -> str:
        where = ", ".join(
            f"{name} {value}"
            for name, value in (("model", self.model), ("request", self.request_id))
            if value
        )
        where = f" ({where})" if where else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.message}{where}{advice}"


class RejectedError(RefineError, InvalidRequestError):
    """The server refuses the request: one sentence with the field, the rule, and what was given."""


class ForbiddenError(RefineError):
    """The server, or a gateway in front of it, does not let this caller in."""

    advice = "do the headers and certificates of ConnectionOptions allow it?"


class UnreachableError(RefineError):
    """No server answers at the address."""

    advice = (
        "is the server running there, and ready (`sam-refine health`), and do TLS and certificates "
        "fit on both sides?"
    )


class OverloadedError(RefineError):
    """The server is there but has no room, heals or is ending; or the request is too large."""

    advice = "send less at a time, or try later"


class DeadlineError(RefineError):
    """`timeout_s` passed before the answer came."""

    advice = "give it more time, or the server less work; does `sam-refine health` find it?"


class CancelledError(RefineError):
    """The call was cancelled before the answer came."""


class ServerError(RefineError):
    """The server failed at this request."""

    advice = "the server's log says why"


class ProtocolError(RefineError):
    """The server has no such model, or answers in another way than this version expects."""

    advice = "client and server must be of the same version (`sam-refine info`)"


_BY_STATUS: Final[dict[str, type[RefineError]]] = {
    "INVALID_ARGUMENT": RejectedError,
    "UNAUTHENTICATED": ForbiddenError,
    "PERMISSION_DENIED": ForbiddenError,
    "UNAVAILABLE": UnreachableError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "CANCELLED": CancelledError,
    "NOT_FOUND": ProtocolError,
    "UNIMPLEMENTED": ProtocolError,
}
_RESTRICTED: Final = "This protocol is restricted"
"""How Triton's answer to a call without the header of a restricted protocol begins. Its status is
UNAVAILABLE, the same as for a full queue."""


@dataclass(frozen=True)
class _InPlace:
    """What answers in a server's place, by gRPC's text about it."""

    text: re.Pattern[str]
    kind: type[RefineError]
    what: str
    """One sentence; `{0}` is what the pattern's group has."""
    advice: str


def _gateway(status: str, kind: type[RefineError], what: str, advice: str) -> _InPlace:
    text = re.compile(f"[Rr]eceived http2 header with status: ({status})")
    return _InPlace(text, kind, what, advice)


HANGS_UP: Final = re.compile("Socket closed|Connection reset")
"""gRPC's text where what answers hangs up without a word, as Triton's port of HTTP does."""
HTTP1_INSTEAD: Final = "http1"
"""gRPC's text, or what stands for it, where what answers speaks HTTP/1."""
_IN_PLACE: Final = (
    _InPlace(
        # The first bytes of an answer of HTTP/1, "HTTP" or "<!DO", taken for a frame of HTTP/2.
        re.compile("(http1|got frame type (?:79|80)\\b)"),
        ProtocolError,
        "what answers there speaks HTTP/1, not gRPC",
        "give the gRPC port, 8001 unless told otherwise: 8000 is HTTP, 8002 has metrics",
    ),
    _gateway(
        "413",
        OverloadedError,
        "a gateway on the way refuses a message of this size (HTTP {0})",
        "raise its limit (nginx: client_max_body_size), or send less: the image as a JPEG file, "
        'scores at the resolution of the network, scores_dtype="float16"',
    ),
    _gateway(
        "429",
        OverloadedError,
        "a gateway on the way lets no more calls through now (HTTP {0})",
        "send fewer at a time, or try later",
    ),
    _gateway(
        "502|503|504",
        UnreachableError,
        "a gateway is there, but reaches no server behind it (HTTP {0})",
        "is the server running, and is the gateway's upstream its gRPC port?",
    ),
    _gateway(
        "401|403|407",
        ForbiddenError,
        "a gateway on the way does not let this caller in (HTTP {0})",
        ForbiddenError.advice,
    ),
    _gateway(
        "404|405|415",
        ProtocolError,
        "what answers there is a web server or a gateway without a route for gRPC (HTTP {0})",
        "does it pass /inference.GRPCInferenceService/ on to the server's gRPC port?",
    ),
    _InPlace(
        re.compile("HTTP proxy returned response code ([0-9]+)"),
        UnreachableError,
        "the HTTP proxy of the environment lets no connection to the server through (HTTP {0})",
        "if the server can be reached without it, set no_proxy to its host",
    ),
)


_SOON: Final = frozenset({"CANCELLED", "INTERNAL", "NOT_FOUND", "UNAVAILABLE", "UNKNOWN"})
"""What Triton answers where a model is healed, where it ends, and where there is no room."""
_CANCELLED_BY_SERVER: Final = "CANCELLED"
"""gRPC's whole text where a server that ends cuts off what is in flight; a caller that cancels, or
closes the client, has other words."""


_OF_ALL: Final = re.compile(
    r"^(connections to all backends failing|failed to connect to all addresses); last error: "
    r"([A-Z_]+: )?"
)
"""What gRPC puts before the reason why there is no connection, also where there is one address."""


def is_soon_available(text: str | None) -> bool:
    """Whether a text of the server means that it can answer later what it could not answer now."""
    return text is not None and (
        text == _CANCELLED_BY_SERVER
        or is_busy(text)
        or is_healing(text)
        or has_no_room(text)
        or needed_s(text) is not None
    )


def error_of(
    status: str | None,
    text: str | None,
    *,
    model: str | None = None,
    request_id: str | None = None,
) -> RefineError:
    """The error for a gRPC status such as "StatusCode.UNAVAILABLE", or for a missing one."""
    for each in _IN_PLACE:
        if found := each.text.search(text or ""):
            what = each.what.format(found[1])
            return each.kind(what, model=model, request_id=request_id, advice=each.advice)
    text = _OF_ALL.sub("", text or "")
    code = (status or "").removeprefix("StatusCode.")
    kind = _BY_STATUS.get(code, ServerError)
    if code in _SOON and is_soon_available(text):
        kind = OverloadedError
    if status == UNAVAILABLE and (text or "").startswith(_RESTRICTED):
        kind = ForbiddenError
    return kind(text or f"the answer was {code or 'an error'}", model=model, request_id=request_id)
