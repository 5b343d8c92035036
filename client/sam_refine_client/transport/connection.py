"""Where the server is and how to reach it: what Triton's client is opened with."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, Final

import grpc

from sam_refine.contract import MAX_MESSAGE_BYTES, InvalidRequestError, choice

_HEADER_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_ROUND_ROBIN: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


@dataclass(frozen=True)
class Tls:
    """Encryption; with a certificate of its own the client proves who it is (mutual TLS)."""

    root_certificates: str | PathLike[str] | None = None
    """PEM file of the authorities that are trusted; None for the system's."""
    certificate_chain: str | PathLike[str] | None = None
    """PEM file of the client's certificate; goes with `private_key`."""
    private_key: str | PathLike[str] | None = None
    server_name: str | None = None
    """The name in the server's certificate, where it is not the host in the address."""

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise InvalidRequestError("certificate_chain and private_key go together, got one")

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises `OSError` where a file cannot be read, `InvalidRequestError` where it is wrong."""
        self._check()
        files = (self.root_certificates, self.private_key, self.certificate_chain)
        return grpc.ssl_channel_credentials(
            *(None if path is None else Path(path).read_bytes() for path in files)
        )

    def _check(self) -> None:
        """gRPC takes files of any content, and then reaches no server."""
        for name in ("root_certificates", "certificate_chain", "private_key"):
            path = getattr(self, name)
            if path is not None:
                Path(path).read_bytes()  # which names a file that cannot be read
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.root_certificates is not None:
                context.load_verify_locations(self.root_certificates)
        except ssl.SSLError as error:
            raise InvalidRequestError(
                "root_certificates must be a PEM file of certificates, "
                f"got {self.root_certificates}"
            ) from error
        if self.certificate_chain is None:
            return
        try:
            context.load_cert_chain(self.certificate_chain, self.private_key, _no_password)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidRequestError(
                "certificate_chain and private_key must be PEM files, the key without a password, "
                f"that belong together, got {self.certificate_chain} and {self.private_key}"
            ) from error


@dataclass(frozen=True)
class Keepalive:
    """Pings while a call waits for its answer, so that a connection that is dead is noticed."""

    interval_s: float = 330.0
    """A server hangs up on who pings more often than every five minutes, Triton unless told
    otherwise (`--grpc-http2-min-recv-ping-interval-without-data`). `math.inf` never pings."""
    timeout_s: float = 20.0
    """The connection is dead where a ping is not answered in that time."""

    def __post_init__(self) -> None:
        for name in ("interval_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidRequestError(f"{name} must be > 0, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Retries:
    """Calls again where the status was UNAVAILABLE, as it is where the server was not reached or
    had no room: nothing else is repeated.

    Waits grow from `first_wait_s` by a factor of two up to `longest_wait_s`, each a random part of
    that, and never beyond the caller's deadline.
    """

    attempts: int = 5
    """In all; 1 never calls again."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if not (isinstance(self.attempts, int) and self.attempts >= 1):
            raise InvalidRequestError(f"attempts must be an integer >= 1, got {self.attempts!r}")
        for name in ("first_wait_s", "longest_wait_s"):
            if not getattr(self, name) >= 0:
                raise InvalidRequestError(f"{name} must be >= 0, got {getattr(self, name)!r}")


class SharedMemoryUse(str, Enum):
    """Whether large tensors go through system shared memory instead of the message."""

    AUTO = "auto"
    """With a single address of this machine, as long as the server goes along."""
    ALWAYS = "always"
    """An error where the server does not go along."""
    NEVER = "never"


@dataclass(frozen=True)
class ConnectionOptions:
    """How to reach a server. Headers go with every call, for gateways and restricted protocols.

    Raises `InvalidRequestError` for a header that HTTP/2 cannot carry. Upper case in a header's
    name is made lower case.
    """

    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keepalive: Keepalive = Keepalive()
    retries: Retries = Retries()
    shared_memory: SharedMemoryUse = SharedMemoryUse.AUTO

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", _headers(self.headers))
        use = choice(
            "shared_memory", self.shared_memory, SharedMemoryUse, "one of auto, always, never"
        )
        object.__setattr__(self, "shared_memory", use)


def is_same_machine(urls: Sequence[str]) -> bool:
    """Whether there is one address, and it is of this machine's loopback."""
    return len(urls) == 1 and _is_loopback(urls[0])


def triton_arguments(urls: Sequence[str], options: ConnectionOptions) -> dict[str, Any]:
    """The arguments of `InferenceServerClient`, blocking or not.

    Calls to several addresses go to each in turn, past those that do not answer. Raises
    `InvalidRequestError` for an address that is none, or a host that has none.
    """
    if not urls:
        raise InvalidRequestError("url must be host:port, got none")
    arguments = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _milliseconds(options.keepalive.interval_s)),
        ("grpc.keepalive_timeout_ms", _milliseconds(options.keepalive.timeout_s)),
        # Without it gRPC 1.85 would wait for a minute, however short `keepalive_timeout_ms`.
        ("grpc.http2.ping_timeout_ms", _milliseconds(options.keepalive.timeout_s)),
        ("grpc.http2.max_pings_without_data", 0),
        # Between attempts to connect gRPC would pause for up to two minutes, in which calls fail.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.service_config", _ROUND_ROBIN),
    ]
    if all(_is_loopback(url) for url in urls):
        arguments.append(("grpc.enable_http_proxy", 0))  # else the environment's http_proxy
    tls = options.tls
    name = tls.server_name if tls else None
    if tls and not name and len(urls) > 1:
        name = _host_and_port(urls[0])[0]
    if name:
        arguments.append(("grpc.ssl_target_name_override", name))
    return {
        "url": urls[0] if len(urls) == 1 else _addresses(urls),
        "creds": tls.credentials() if tls else None,
        "channel_args": arguments,
    }


def _addresses(urls: Sequence[str]) -> str:
    """gRPC's name of several addresses, which it takes as numbers of one family only."""
    found: list[tuple[str, int]] = []
    for url in urls:
        host, port = _host_and_port(url)
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise InvalidRequestError(f"url {url!r} has a host that is not known") from error
        found += [(str(info[4][0]), port) for info in known]
    family = 4 if any(ipaddress.ip_address(host).version == 4 for host, _ in found) else 6
    listed = [
        f"{host}:{port}" if family == 4 else f"[{host}]:{port}"
        for host, port in dict.fromkeys(found)
        if ipaddress.ip_address(host).version == family
    ]
    return f"ipv{family}:{','.join(listed)}"


def _is_loopback(url: str) -> bool:
    host = _host_and_port(url)[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_and_port(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition(":")
    if not host or "/" in host or not re.fullmatch("[0-9]{1,5}", port):
        raise InvalidRequestError(f"url must be host:port, got {url!r}")
    if not 1 <= int(port) <= 65535:
        raise InvalidRequestError(f"url must have a port in [1, 65535], got {url!r}")
    return host.strip("[]"), int(port)


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = {}
    for name, value in headers.items():
        key = name.lower() if isinstance(name, str) else ""
        if not _HEADER_NAME.fullmatch(key) or key.endswith("-bin"):
            raise InvalidRequestError(
                "headers must have names of letters, digits, - _ and ., not ending in -bin, "
                f"got {name!r}"
            )
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidRequestError(
                f"headers must have values of printable ASCII, that of {name} has not"
            )
        checked[key] = value
    return checked


def _milliseconds(seconds: float) -> int:
    """As gRPC takes them: 1 at least, and the largest stands for never."""
    return round(min(max(seconds * 1000, 1), 2**31 - 1))


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal."""
    return ""
