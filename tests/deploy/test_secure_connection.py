"""TLS, mutual TLS and restricted protocols: our client and a real server."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sam_refine_client import (
    ConnectionOptions,
    ForbiddenError,
    RefineError,
    Retries,
    Tls,
    UnreachableError,
)
from sam_refine_deploy import Server, ServerOptions
from support.certificates import Authority
from support.clients import CLIENTS
from support.fake_triton import PATIENCE_S
from support.servers import server_ports
from support.tiny_models import make_repository, replace_by_zeros

pytestmark = pytest.mark.triton

SIZE = (700, 600)
IMAGE = np.zeros((*SIZE, 3), np.uint8)
"""Goes through shared memory."""
SCORES = np.full((3, 6, 9), 0.1, np.float32)
HEADERS = {"triton-grpc-protocol-key": "17"}
"""What a server started with `--grpc-restricted-protocol=...:key=17` asks for."""
RESTRICTED = "^This protocol is restricted, expecting header 'triton-grpc-protocol-key'"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "theirs")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = make_repository(tmp_path_factory.mktemp("deploy") / "models")
    replace_by_zeros(models)
    return models


@pytest.fixture(scope="module")
def server_flags(authority):
    certificate = authority.certificate("server.test", "127.0.0.1")
    return (
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={certificate.chain}",
        f"--grpc-server-key={certificate.key}",
    )


@pytest.fixture(scope="module")
def tls_address(models, server_flags):
    """A server with TLS whose inference is restricted, and its shared memory is not."""
    flags = (*server_flags, "--grpc-restricted-protocol=inference:key=17")
    with Server(ServerOptions(models, extra_arguments=flags, **server_ports())) as server:
        yield server.grpc_address


@pytest.fixture(scope="module")
def mutual_tls_address(models, server_flags, authority):
    """A server with mutual TLS whose shared memory is restricted, and its inference is not."""
    flags = (
        *server_flags,
        "--grpc-use-ssl-mutual=1",
        f"--grpc-root-cert={authority.root}",
        "--grpc-restricted-protocol=shared-memory:key=17",
    )
    with Server(ServerOptions(models, extra_arguments=flags, **server_ports())) as server:
        yield server.grpc_address


@pytest.fixture(params=list(CLIENTS))
def refine(request):
    """refine(address, tls, **connection options) -> the labels of one call."""

    def refine(address, tls, **options):
        connection = ConnectionOptions(tls=tls, **{"retries": Retries(attempts=1), **options})
        with CLIENTS[request.param](address, connection=connection) as client:
            return client.refine(
                IMAGE, logits=SCORES, outputs=("labels",), timeout_s=PATIENCE_S
            ).labels

    return refine


def error_of(refine, address, tls, **options):
    """The error of a call, which is one line."""
    with pytest.raises(RefineError) as caught:
        refine(address, tls, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# --- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "server.test"])
def test_tls_with_the_right_authority_reaches_the_server(refine, tls_address, authority, name):
    tls = Tls(authority.root, server_name=name)
    assert refine(tls_address, tls, headers=HEADERS).shape == SIZE


def test_tls_of_another_authority_is_not_trusted(refine, tls_address, stranger):
    error = error_of(refine, tls_address, Tls(stranger.root), headers=HEADERS)
    assert type(error) is UnreachableError
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


def test_tls_under_another_name_is_not_trusted(refine, tls_address, authority):
    tls = Tls(authority.root, server_name="other.test")
    error = error_of(refine, tls_address, tls, headers=HEADERS)
    assert type(error) is UnreachableError
    assert "Hostname Verification Check failed" in str(error)


def test_plain_text_does_not_reach_a_server_with_tls(refine, tls_address):
    error = error_of(refine, tls_address, None, headers=HEADERS)
    assert type(error) is UnreachableError
    assert str(error).endswith("do TLS and certificates fit on both sides?")


# --- Mutual TLS ------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["always", "never"])
def test_mutual_tls_lets_in_who_has_a_certificate(refine, mutual_tls_address, authority, use):
    certificate = authority.certificate("client.test")
    tls = Tls(authority.root, certificate.chain, certificate.key)
    labels = refine(mutual_tls_address, tls, headers=HEADERS, shared_memory=use)
    assert labels.shape == SIZE


def test_mutual_tls_without_a_certificate_reaches_nothing(refine, mutual_tls_address, authority):
    error = error_of(refine, mutual_tls_address, Tls(authority.root))
    assert type(error) is UnreachableError
    assert str(error).endswith("do TLS and certificates fit on both sides?")


def test_mutual_tls_with_the_certificate_of_another_authority_reaches_nothing(
    refine, mutual_tls_address, authority, stranger
):
    certificate = stranger.certificate("client.test")
    tls = Tls(authority.root, certificate.chain, certificate.key)
    assert type(error_of(refine, mutual_tls_address, tls)) is UnreachableError


# --- Restricted protocols --------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {**HEADERS, "triton-grpc-protocol-key": "18"}])
def test_restricted_inference_without_its_header_is_forbidden_and_not_tried_again(
    refine, tls_address, authority, headers
):
    retries = Retries(attempts=100, first_wait_s=30, longest_wait_s=30)
    error = error_of(refine, tls_address, Tls(authority.root), headers=headers, retries=retries)
    assert type(error) is ForbiddenError
    assert re.match(RESTRICTED, str(error))


def test_restricted_shared_memory_without_its_header_is_done_without(
    refine, mutual_tls_address, authority
):
    certificate = authority.certificate("client.test")
    tls = Tls(authority.root, certificate.chain, certificate.key)
    assert refine(mutual_tls_address, tls).shape == SIZE
    error = error_of(refine, mutual_tls_address, tls, shared_memory="always")
    assert type(error) is ForbiddenError
    assert re.match(RESTRICTED, str(error))
