"""Where the server is and how to reach it, as the environment says: for who says nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from sam_refine.contract import InvalidRequestError
from sam_refine.contract.checks import boolean, integer
from sam_refine_client.transport.connection import ConnectionOptions, Retries, Tls

DEFAULT_URL: Final = "127.0.0.1:8001"
URL: Final = "SAM_REFINE_URL"
"""host:port, or several with spaces or commas between them."""
_TLS: Final = "SAM_REFINE_TLS"
_TLS_FILES: Final = {
    "root_certificates": "SAM_REFINE_TLS_CA",
    "certificate_chain": "SAM_REFINE_TLS_CERT",
    "private_key": "SAM_REFINE_TLS_KEY",
    "server_name": "SAM_REFINE_TLS_SERVER_NAME",
}
_HEADER: Final = "SAM_REFINE_HEADER"
"""NAME=VALUE, or several with semicolons between them."""
_ATTEMPTS: Final = "SAM_REFINE_ATTEMPTS"


def environment_urls(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The addresses that `SAM_REFINE_URL` names; this machine's where it is not set."""
    return [each for each in re.split(r"[\s,]+", environment.get(URL, "")) if each] or [DEFAULT_URL]


def environment_options(environment: Mapping[str, str] = os.environ) -> ConnectionOptions:
    """How the environment says to reach them. Raises `InvalidRequestError`."""
    given = {name: environment[key] for name, key in _TLS_FILES.items() if environment.get(key)}
    is_encrypted = bool(given)
    if environment.get(_TLS):
        is_encrypted |= _flag(environment[_TLS])
    attempts = None
    if environment.get(_ATTEMPTS):
        attempts = integer(_ATTEMPTS, environment[_ATTEMPTS], 1)
    return ConnectionOptions(
        tls=Tls(**given) if is_encrypted else None,
        headers=environment_headers(environment),
        retries=Retries(attempts=attempts),
    )


def environment_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment says that goes with every call. Raises `InvalidRequestError`."""
    headers = {}
    for text in filter(None, map(str.strip, environment.get(_HEADER, "").split(";"))):
        name, separator, value = text.partition("=")
        if not (name and separator):
            raise InvalidRequestError(f"{_HEADER} must be NAME=VALUE")  # its value may be a secret
        headers[name] = value
    return headers


def _flag(text: str) -> bool:
    """As the command line takes it: 1, true, yes, on, or the contrary."""
    words = {"1": "true", "yes": "true", "on": "true", "0": "false", "no": "false", "off": "false"}
    return boolean(_TLS, words.get(text.lower(), text))
