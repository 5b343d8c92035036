"""What can go wrong with a server.

ServeError
└── StartCancelledError   nothing is wrong: the caller changed its mind
"""

from __future__ import annotations


class ServeError(Exception):
    """The server cannot start or has failed: what is wrong, and what to do about it."""


class StartCancelledError(ServeError):
    """The caller asked to give up the start."""
