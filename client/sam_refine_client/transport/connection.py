"""Where the server is and how to reach it: what Triton's client is opened with."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import random
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
_ATTEMPTS: Final = 8
_PATIENCE_S: Final = 1.0
"""With what may be no server at all."""
_ROUND_ROBIN: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


@dataclass(frozen=True)
class Tls:
    """Encryption. With a certificate of its own the client proves who it is (mutual TLS)."""

    root_certificates: str | PathLike[str] | None = None
    """PEM file of the trusted authorities; None trusts the system's."""
    certificate_chain: str | PathLike[str] | None = None
    """PEM file of the client's certificate; goes with `private_key`."""
    private_key: str | PathLike[str] | None = None
    server_name: str | None = None
    """The name in the server's certificate, if that is not the host in the address."""

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise InvalidRequestError("certificate_chain and private_key go together, got one")

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises `OSError` if a file cannot be read, `InvalidRequestError` if it is not right."""
        self._check()
        files = (self.root_certificates, self.private_key, self.certificate_chain)
        return grpc.ssl_channel_credentials(
            *(None if path is None else Path(path).read_bytes() for path in files)
        )

    def _check(self) -> None:
        """gRPC itself accepts files of any content, and then reaches no server."""
        for name in ("root_certificates", "certificate_chain", "private_key"):
            path = getattr(self, name)
            if path is not None:
                Path(path).read_bytes()  # its error names the file
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
    """Pings while a call waits for its answer, so that a dead connection is noticed."""

    interval_s: float = 330.0
    """Triton hangs up on clients that ping more often than every five minutes, unless it is told
    otherwise (`--grpc-http2-min-recv-ping-interval-without-data`). `math.inf` never pings."""
    timeout_s: float = 20.0
    """The connection counts as dead if a ping is not answered within this time."""

    def __post_init__(self) -> None:
        for name in ("interval_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidRequestError(f"{name} must be > 0, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Retries:
    """Calls again where the server was not reached, had no room, or was healing. Nothing else is
    repeated.

    The longest wait doubles from `first_wait_s` up to `longest_wait_s`; the wait itself is a random
    half to whole of that, and never goes beyond the caller's deadline.
    """

    attempts: int | None = None
    """Calls in all; 1 never calls again. None goes on until the caller's deadline; without one, to
    an address where no server has answered yet, or where a server has too little shared memory, it
    calls 8 times, for some 10 seconds."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 2.0

    def most(self, deadline_s: float | None, *, is_hopeful: bool) -> float:
        """How many calls there may be; `is_hopeful`: whether the server will surely have room."""
        if self.attempts is not None:
            return self.attempts
        return math.inf if is_hopeful and deadline_s is not None else _ATTEMPTS

    def wait_s(self, attempt: int) -> float:
        """How long to wait after a call has failed for the `attempt`-th time, from 1."""
        doublings = min(attempt - 1, 100)  # 2.0**doublings must stay a finite float
        longest = min(self.longest_wait_s, self.first_wait_s * 2**doublings)
        return random.uniform(longest / 2, longest)

    def __post_init__(self) -> None:
        attempts = self.attempts
        if attempts is not None and not (isinstance(attempts, int) and attempts >= 1):
            raise InvalidRequestError(f"attempts must be an integer >= 1, got {attempts!r}")
        for name in ("first_wait_s", "longest_wait_s"):
            if not getattr(self, name) >= 0:
                raise InvalidRequestError(f"{name} must be >= 0, got {getattr(self, name)!r}")


class SharedMemoryUse(str, Enum):
    """Whether large tensors go through system shared memory instead of the message."""

    AUTO = "auto"
    """With a single address of this machine, as long as the server can use it."""
    ALWAYS = "always"
    """It is an error if the server cannot use it."""
    NEVER = "never"


@dataclass(frozen=True)
class ConnectionOptions:
    """How to reach a server. Headers go with every call, for gateways and restricted protocols.

    Names of headers are made lower case. Raises `InvalidRequestError` for a header that HTTP/2
    cannot carry.
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


def addresses(url: str | Sequence[str], options: ConnectionOptions) -> list[str]:
    """Each host:port that a caller names: one, several, or a text of several.

    A scheme is taken where it says what `options` do of encryption, and a slash at the end. Raises
    `InvalidRequestError` for what is no address of a gRPC port.
    """
    texts = [url] if isinstance(url, str) else list(url) if isinstance(url, Sequence) else [url]
    found = []
    for text in texts:
        if not isinstance(text, str):
            raise InvalidRequestError(f"url must be host:port, got {url!r:.80}; give it as text")
        found += [_bare(each, options) for each in re.split(r"[\s,]+", text) if each]
    if not found:
        got = "none" if not texts else repr(texts[0])
        raise InvalidRequestError(f"url must be host:port, got {got}")
    return found


_SCHEME: Final = re.compile(r"(?i)(grpcs?|https?|tcp)://|(?:dns:///|ipv[46]:)")
_ENCRYPTED: Final = ("grpcs", "https")


def _bare(url: str, options: ConnectionOptions) -> str:
    """host:port of an address that may have a scheme and a slash at the end."""
    if (found := _SCHEME.match(url)) is None:
        scheme, rest = "", url
    else:
        scheme, rest = (found[1] or "").lower(), url[found.end() :]
    rest = rest.removesuffix("/")
    if scheme in _ENCRYPTED and options.tls is None:
        raise InvalidRequestError(
            f"url {url} is encrypted: give {rest}, and connection=ConnectionOptions(tls=Tls()), "
            "--tls or SAM_REFINE_TLS=1"
        )
    if scheme and scheme not in (*_ENCRYPTED, "tcp") and options.tls is not None:
        raise InvalidRequestError(f"url {url} is not encrypted, but TLS is asked for; give {rest}")
    _host_and_port(rest)
    return rest


def local_port(urls: Sequence[str]) -> int | None:
    """The port, if there is only one address, and it is a loopback address of this machine."""
    return _host_and_port(urls[0])[1] if len(urls) == 1 and _is_loopback(urls[0]) else None


def triton_arguments(urls: Sequence[str], options: ConnectionOptions) -> dict[str, Any]:
    """The arguments of `InferenceServerClient`, blocking or not.

    Calls to several addresses go to each in turn and skip those that do not answer. Raises
    `InvalidRequestError` for an address that is not host:port, and, if there are several, for a
    host whose address cannot be found.
    """
    if not urls:
        raise InvalidRequestError("url must be host:port, got none")
    arguments = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _milliseconds(options.keepalive.interval_s)),
        ("grpc.keepalive_timeout_ms", _milliseconds(options.keepalive.timeout_s)),
        # Without it gRPC 1.85 waits for a minute, however short `keepalive_timeout_ms` is.
        ("grpc.http2.ping_timeout_ms", _milliseconds(options.keepalive.timeout_s)),
        ("grpc.http2.max_pings_without_data", 0),
        # By default gRPC pauses for up to two minutes between attempts to connect; calls fail then.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.service_config", _ROUND_ROBIN),
    ]
    if all(_is_loopback(url) for url in urls):
        arguments.append(("grpc.enable_http_proxy", 0))  # otherwise http_proxy of the environment
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


def plain_address(urls: Sequence[str], options: ConnectionOptions) -> tuple[str, int] | None:
    """Host and port, if there is only one address and no encryption."""
    return _host_and_port(urls[0]) if len(urls) == 1 and options.tls is None else None


def speaks_http1(address: tuple[str, int]) -> bool:
    """Whether what listens there answers a question of HTTP/1."""
    try:
        with socket.create_connection(address, timeout=_PATIENCE_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: sam-refine\r\nConnection: close\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def proxy_variable(urls: Sequence[str]) -> str | None:
    """The variable of the environment by whose proxy gRPC calls these addresses, if it does."""
    hosts = [_host_and_port(url)[0] for url in urls if not _is_loopback(url)]
    exceptions = re.split(r"[\s,]+", _first_set("no_grpc_proxy", "no_proxy")[1])
    if all(any(each and host.endswith(each) for each in exceptions) for host in hosts):
        return None
    return _first_set("grpc_proxy", "https_proxy", "http_proxy")[0]


def _first_set(*names: str) -> tuple[str | None, str]:
    """The first variable of the environment that is set, and its value."""
    return next(((name, os.environ[name]) for name in names if os.environ.get(name)), (None, ""))


def _addresses(urls: Sequence[str]) -> str:
    """Several addresses as gRPC takes them: numeric, all of IPv4 or all of IPv6."""
    found: list[tuple[str, int]] = []
    for url in urls:
        host, port = _host_and_port(url)
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise InvalidRequestError(
                f"url must have a host whose address can be found, got {url!r}"
            ) from error
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
    is_port = bool(re.fullmatch("[0-9]{1,5}", port))
    if ":" in url and not url.startswith("[") and _is_ipv6(url):
        raise InvalidRequestError(
            f"url must be host:port, got {url!r}; of IPv6 give [{url}]:{DEFAULT_PORT}"
        )
    if _HOST.fullmatch(url):
        raise InvalidRequestError(
            f"url must be host:port, got {url!r}; give {url}:{DEFAULT_PORT}, or its own gRPC port"
        )
    if not _HOST.fullmatch(host) or not is_port:
        raise InvalidRequestError(f"url must be host:port, got {url!r}")
    if not 1 <= int(port) <= 65535:
        raise InvalidRequestError(f"url must have a port in [1, 65535], got {url!r}")
    return host.strip("[]"), int(port)


DEFAULT_PORT: Final = 8001
_HOST: Final = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.%\w]+\]")


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


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
                f"headers must have values of printable ASCII, got other characters in {name}"
            )
        checked[key] = value
    return checked


def _milliseconds(seconds: float) -> int:
    """As gRPC takes them: at least 1; the largest means never."""
    return round(min(max(seconds * 1000, 1), 2**31 - 1))


def _no_password() -> str:
    """Keeps OpenSSL from asking for one on the terminal."""
    return ""
