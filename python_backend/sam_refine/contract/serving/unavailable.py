"""What Triton says where a model cannot be reached right now but will be again.

Triton 2.51 has no status of its own for that: what a stub that has died makes of a call is
INTERNAL, a model that is loaded anew is NOT_FOUND or UNAVAILABLE, and a call on behalf of another
one (BLS) has no status at all. So the text decides, here and nowhere else.
"""

from __future__ import annotations

from typing import Final

_HEALING: Final = (
    "is not healthy",  # a stub has ended
    "has no available versions",  # a model between two loads
    "is not at ready state",  # likewise, of a version that was asked for
    "is not ready",
    "Server not ready",  # it starts, or ends
    "Server is stopping",
)
_NO_ROOM: Final = ("Failed to increase the shared memory pool size",)  # in /dev/shm


def is_healing(text: str) -> bool:
    """Whether a text of Triton's means that a model or the server will soon be back."""
    return any(part in text for part in _HEALING)


def has_no_room(text: str) -> bool:
    """Whether a text of Triton's means that shared memory is used up by now."""
    return any(part in text for part in _NO_ROOM)
