"""Certificates made for a test, as the files that operators have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import trustme


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    chain: Path
    key: Path


class Authority:
    """A certificate authority; `root` is its own certificate."""

    def __init__(self, directory: Path, name: str) -> None:
        self._authority = trustme.CA()
        self._directory = directory
        self._name = name
        self.root = directory / f"{name}-ca.pem"
        self._authority.cert_pem.write_to_path(self.root)

    def certificate(self, *hosts: str) -> Certificate:
        """A certificate for a server or a client of those names."""
        issued = self._authority.issue_cert(*hosts)
        chain = self._directory / f"{self._name}-{hosts[0]}.pem"
        key = self._directory / f"{self._name}-{hosts[0]}.key"
        chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return Certificate(chain, key)


def server_credentials(
    certificate: Certificate, clients: Authority | None = None
) -> grpc.ServerCredentials:
    """For a server in this process; with `clients`, only those of that authority may call."""
    return grpc.ssl_server_credentials(
        [(certificate.key.read_bytes(), certificate.chain.read_bytes())],
        root_certificates=clients.root.read_bytes() if clients else None,
        require_client_auth=clients is not None,
    )
