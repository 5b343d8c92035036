"""The caller's trace, carried on to the server, where the caller uses OpenTelemetry."""

from __future__ import annotations

import sys


def trace_headers() -> dict[str, str]:
    """The W3C headers of the span that is current and recorded; none where there is none.

    OpenTelemetry is the caller's: where nobody has imported it, there is no span. Of a span that is
    not recorded nothing is sent, because Triton 2.51 would record its own part of it nevertheless.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    if get_current_span().get_span_context().trace_flags.sampled:
        TraceContextTextMapPropagator().inject(headers)
    return headers
