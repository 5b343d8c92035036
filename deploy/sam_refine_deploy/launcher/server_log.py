"""Finds the reason for a failure in tritonserver's log."""

from __future__ import annotations

import re

_LONGEST = 500  # characters of one reason
_LOAD_FAILURE = re.compile(r"failed to load '(?P<model>[^']*)' version \d+: (?P<text>.*)")
_LOG_LINE = re.compile(r'^[EF]\d{4} [\d:.]+\s+\d+ \S+\] +"?(?P<text>.*?)[" ]*$')
_FATAL = re.compile(r"^(?:error|.*/tritonserver|tritonserver): (?P<text>.+)")
_ABORT = re.compile(
    r"^terminate called after throwing an instance of '(?P<name>.*)'\n"
    r"(?:  what\(\):  (?P<text>.*)$)?",
    re.MULTILINE,
)
_FRAME = re.compile(r"^ *\d+# ")
_STATUS = re.compile(r"^(?:[A-Z][a-z]+(?: [a-z]+)*: )?(?:\w+(?:Error|Exception): )?")
# These mean only that there is no NVIDIA driver.
_HARMLESS = ("CudaDriverHelper", "unable to create stream")


def failure_reason(log: str) -> str:
    """Why the server that wrote `log` could not start, or ended: one line for each reason.

    These are the models that did not load; if there are none, the exception that ended it, or else
    the errors that it logged; if there are none either, the end of the log without its stack.
    """
    lines = [line for line in log.splitlines() if not _FRAME.match(line)]
    reasons = [reason for line in lines if (reason := _load_failure(line))]
    if not reasons:
        reasons = [
            f"{abort['name']}: {abort['text']}" if abort["text"] else abort["name"]
            for abort in _ABORT.finditer(log)
        ]
    if not reasons:
        reasons = [reason for line in lines if (reason := _error(line))]
    if not reasons:
        reasons = [line.strip() for line in lines if line.strip() and line[0] not in "+|"][-10:]
    unique = dict.fromkeys(reason[:_LONGEST] for reason in reasons)
    return "\n".join(unique) or "its log is empty"


def _load_failure(line: str) -> str | None:
    if "Poll failed for model directory" in line:
        return _error(line)
    if line.startswith("[libprotobuf ERROR"):
        return line.partition("] ")[2]
    match = _LOAD_FAILURE.search(line)
    if match is None:
        return None
    # A model's exception comes with its stack, with line ends written as \n.
    text = match["text"].rstrip('" ').partition("\\n\\nAt:\\n")[0].replace("\\n", " ")
    return f"{match['model']}: {_STATUS.sub('', text)}"


def _error(line: str) -> str | None:
    fatal = _FATAL.match(line)
    if fatal is not None:
        return fatal["text"]
    match = _LOG_LINE.match(line)
    if match is None or match["text"].startswith(_HARMLESS):
        return None
    return match["text"]
