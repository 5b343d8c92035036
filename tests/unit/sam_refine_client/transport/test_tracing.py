"""What of a caller's trace goes to the server."""

import subprocess
import sys

import pytest
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    use_span,
)

from sam_refine_client.transport.tracing import trace_headers


def span(flags):
    state = TraceState([("vendor", "1")])
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, False, TraceFlags(flags), state))


def test_recorded_span_is_named_as_w3c_says():
    with use_span(span(TraceFlags.SAMPLED)):
        assert trace_headers() == {
            "traceparent": f"00-{0xABC:032x}-{0xDEF:016x}-01",
            "tracestate": "vendor=1",
        }


def test_span_that_is_not_recorded_and_none_at_all_are_not_named():
    assert trace_headers() == {}
    with use_span(span(TraceFlags.DEFAULT)):
        assert trace_headers() == {}


@pytest.mark.slow
def test_client_itself_does_not_import_opentelemetry():
    code = (
        "import sys\nfrom sam_refine_client import RefineClient\n"
        "from sam_refine_client.transport.tracing import trace_headers\n"
        "assert trace_headers() == {}\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
