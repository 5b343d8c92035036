"""Addresses, encryption, headers, keepalive; and what else may answer at an address."""

from __future__ import annotations

import http.server
import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sam_refine_client import (
    ConnectionOptions,
    DeadlineError,
    InvalidRequestError,
    Keepalive,
    ProtocolError,
    RefineClient,
    RefineError,
    Retries,
    Tls,
    UnreachableError,
)
from sam_refine_client.transport.connection import addresses, proxy_variable
from support.certificates import Authority, server_credentials
from support.fake_triton import PATIENCE_S, FakeTriton, Wire, hang, silent_listener

ONCE = Retries(attempts=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "theirs")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.certificate("server.test", "127.0.0.1")


# --- Addresses and options -------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:8001",
        "grpc://10.0.0.1:8001/",
        "HTTP://10.0.0.1:8001/",
        " 10.0.0.1:8001\n",
        "dns:///10.0.0.1:8001",
        "ipv4:10.0.0.1:8001",
    ],
)
def test_address_with_a_scheme_that_says_no_more_is_that_address(url):
    assert addresses(url, ConnectionOptions()) == ["10.0.0.1:8001"]


def test_addresses_may_be_one_text():
    text = "http://a:1, b:2 [::1]:3"
    assert addresses(text, ConnectionOptions()) == ["a:1", "b:2", "[::1]:3"]


def test_scheme_must_not_contradict_the_options():
    encrypted = ConnectionOptions(tls=Tls())
    assert addresses("https://a:1", encrypted) == ["a:1"]
    with pytest.raises(InvalidRequestError, match="http://a:1 is not encrypted, but TLS is asked"):
        addresses("http://a:1", encrypted)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost", "url must be host:port, got 'localhost'; give localhost:8001, or its own"),
        ("127.0.0.1:8001/v2/models", "url must be host:port, got '127.0.0.1:8001/v2/models'"),
        ("me:secret@127.0.0.1:8001", "url must be host:port"),
        ("triton:8001:8001", "url must be host:port"),
        ("::1", r"url must be host:port, got '::1'; of IPv6 give \[::1\]:8001"),
        ("unix:/tmp/triton.sock", "url must be host:port"),
        (8001, "url must be host:port, got 8001; give it as text"),
        (b"127.0.0.1:8001", "give it as text"),
        (
            "https://127.0.0.1:8001/",
            r"give 127.0.0.1:8001, and connection=ConnectionOptions\(tls=Tls\(\)\), --tls",
        ),
        (":8001", "url must be host:port, got ':8001'"),
        ("", "url must be host:port, got ''"),
        ([], "url must be host:port, got none"),
        ("127.0.0.1:http", "url must be host:port"),
        ("127.0.0.1:0", r"url must have a port in \[1, 65535\], got '127.0.0.1:0'"),
        ("127.0.0.1:99999", r"url must have a port in \[1, 65535\], got '127.0.0.1:99999'"),
        (
            ["127.0.0.1:8001", "nosuch.invalid:1"],
            "url must have a host whose address can be found, got 'nosuch",
        ),
    ],
)
def test_wrong_address_is_refused(client_of, url, message):
    with pytest.raises(InvalidRequestError, match=message):
        client_of(url)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"a b": "x"}, "headers must have names of letters, digits, .* got 'a b'"),
        ({"": "x"}, "headers must have names of .* got ''"),
        ({5: "x"}, "headers must have names of .* got 5"),
        ({"trace-bin": "x"}, "not ending in -bin, got 'trace-bin'"),
        ({"token": "secret\n"}, "headers must have values of printable ASCII, got other"),
        ({"token": "secrèt"}, "got other characters in token"),
        ({"token": b"secret"}, "got other characters in token"),
    ],
)
def test_header_that_cannot_be_sent_is_refused(headers, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        ConnectionOptions(headers=headers)
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: Retries(attempts=0), "attempts must be an integer >= 1, got 0"),
        (lambda: Retries(attempts=1.5), "attempts must be an integer >= 1, got 1.5"),
        (lambda: Retries(first_wait_s=-1), "first_wait_s must be >= 0, got -1"),
        (lambda: Retries(longest_wait_s=float("nan")), "longest_wait_s must be >= 0, got nan"),
        (lambda: Keepalive(interval_s=0), "interval_s must be > 0, got 0"),
        (lambda: Tls(private_key="a.pem"), "certificate_chain and private_key go together"),
    ],
)
def test_wrong_option_is_refused(options, message):
    with pytest.raises(InvalidRequestError, match=message):
        options()


def test_address_of_this_machine_is_not_reached_by_way_of_a_proxy(client_of, small, monkeypatch):
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeTriton() as server:
        for url in (server.address, [server.address, f"localhost:{server.port}"]):
            with client_of(url, connection=ConnectionOptions(retries=ONCE)) as client:
                assert client.refine(**small).labels is not None


# --- Something else at the address -----------------------------------------------------------


class Page(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def web_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def error_within(client_of, url, call, timeout_s, **options):
    """What `refine` raises where it has some time only."""
    connection = ConnectionOptions(**options)
    with client_of(url, connection=connection) as client, pytest.raises(RefineError) as caught:
        client.refine(**call, timeout_s=timeout_s)
    assert "\n" not in str(caught.value)
    return caught.value


HINT = "and ready (`sam-refine health`), and do TLS and certificates fit on both sides?"


def test_web_server_is_no_server_of_ours(client_of, small, web_server):
    error = error_within(client_of, f"127.0.0.1:{web_server}", small, PATIENCE_S, retries=ONCE)
    assert type(error) is ProtocolError
    assert error.message == "what answers there speaks HTTP/1, not gRPC"
    assert str(error).endswith("8001 unless told otherwise: 8000 is HTTP, 8002 has metrics")


def test_web_server_that_hangs_up_on_grpc_is_found_out(client_of, small):
    """As Triton's port of HTTP does: it says nothing to what is no HTTP/1."""
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if connection.recv(4096).startswith(b"GET /"):
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        error = error_within(client_of, address, small, PATIENCE_S)
        with client_of(address) as client:
            health = client.health(canary=False, timeout_s=PATIENCE_S)
            with pytest.raises(ProtocolError, match="what answers there speaks HTTP/1, not gRPC"):
                client.info(timeout_s=PATIENCE_S)
        listener.shutdown(socket.SHUT_RDWR)
    assert type(error) is ProtocolError
    assert error.message == "what answers there speaks HTTP/1, not gRPC"
    (found,) = health.problems
    assert "speaks HTTP/1, not gRPC; give the gRPC port, 8001 unless told" in found


@pytest.mark.parametrize(
    ("urls", "environment", "variable"),
    [
        (["triton.example:8001"], {}, None),
        (["triton.example:8001"], {"https_proxy": "http://p:3128"}, "https_proxy"),
        (["triton.example:8001"], {"http_proxy": "http://p", "grpc_proxy": "http://p"}, "grpc_pr"),
        (["127.0.0.1:8001"], {"http_proxy": "http://p"}, None),
        (["a.example:1"], {"http_proxy": "http://p", "no_proxy": "b, .example"}, None),
        (["a.example:1", "b:1"], {"http_proxy": "http://p", "no_proxy": ".example"}, "http_proxy"),
    ],
)
def test_proxy_is_the_one_that_grpc_would_take(monkeypatch, urls, environment, variable):
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_variable(urls)
    assert found == variable or found.startswith(variable)


def test_unreachable_server_behind_a_proxy_is_told_of_it(monkeypatch, client_of, small):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    error = error_within(client_of, "192.0.2.1:8001", small, PATIENCE_S, retries=ONCE)
    assert type(error) is UnreachableError
    assert "calls go by the proxy that http_proxy names: set no_proxy to" in str(error)


def test_listener_that_says_nothing_is_not_waited_for_beyond_the_deadline(client_of, small):
    with silent_listener() as port:
        error = error_within(client_of, f"127.0.0.1:{port}", small, 0.5)
    assert type(error) is DeadlineError
    assert str(error).endswith("does `sam-refine health` find it?")


def test_address_where_nobody_listens_is_unreachable(client_of, small):
    with silent_listener() as port:
        pass
    error = error_within(client_of, f"127.0.0.1:{port}", small, PATIENCE_S, retries=ONCE)
    assert type(error) is UnreachableError
    assert f"127.0.0.1:{port}" in str(error)


def test_plain_client_of_a_server_with_tls_is_told_of_tls(client_of, small, certificate):
    with FakeTriton(credentials=server_credentials(certificate)) as server:
        error = error_within(client_of, server.address, small, PATIENCE_S, retries=ONCE)
    assert type(error) is UnreachableError
    assert str(error).endswith(HINT)


def test_tls_client_of_a_plain_server_is_told_of_tls(client_of, small, authority):
    with FakeTriton() as server:
        tls = Tls(root_certificates=authority.root)
        error = error_within(client_of, server.address, small, PATIENCE_S, tls=tls, retries=ONCE)
    assert type(error) is UnreachableError
    assert str(error).endswith(HINT)


# --- TLS; the real server's is in tests/deploy -----------------------------------------------


def test_tls_reaches_a_server_by_address_and_by_name(client_of, small, authority, certificate):
    with FakeTriton(credentials=server_credentials(certificate)) as server:
        for name in (None, "server.test"):
            tls = Tls(root_certificates=str(authority.root), server_name=name)
            options = ConnectionOptions(tls=tls, retries=ONCE)
            for url in (server.address, [server.address, server.address]):
                with client_of(url, connection=options) as client:
                    assert client.refine(**small).labels is not None


@pytest.mark.parametrize(
    ("trusts", "name", "text"),
    [
        ("stranger", None, "CERTIFICATE_VERIFY_FAILED"),
        (None, None, "CERTIFICATE_VERIFY_FAILED"),
        ("authority", "other.test", "Hostname Verification Check failed"),
    ],
)
def test_server_that_is_not_trusted_is_not_called(
    client_of, small, certificate, request, trusts, name, text
):
    root = request.getfixturevalue(trusts).root if trusts else None
    with FakeTriton(credentials=server_credentials(certificate)) as server:
        tls = Tls(root_certificates=root, server_name=name)
        error = error_within(client_of, server.address, small, PATIENCE_S, tls=tls, retries=ONCE)
        assert server.seen == []
    assert type(error) is UnreachableError
    assert text in str(error)


def test_certificates_that_are_none_are_refused(client_of, authority, stranger, tmp_path):
    ours, theirs = authority.certificate("a.test"), stranger.certificate("a.test")
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for tls, message in (
        (Tls(junk), "root_certificates must be a PEM file of certificates, got .*junk.pem"),
        (Tls(ours.key), "root_certificates must be a PEM file of certificates, got .*a.test.key"),
        (Tls(None, junk, ours.key), "certificate_chain and private_key must be PEM files, .*junk"),
        (Tls(None, ours.chain, junk), "certificate_chain and private_key must be PEM files, "),
        (Tls(None, ours.chain, theirs.key), r"that belong together, got .*ours-a.test.pem and .*t"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            client_of("127.0.0.1:1", connection=ConnectionOptions(tls=tls))
    for tls in (Tls(tmp_path / "none"), Tls(None, ours.chain, tmp_path / "none")):
        with pytest.raises(FileNotFoundError, match="none"):
            client_of("127.0.0.1:1", connection=ConnectionOptions(tls=tls))


def test_key_with_a_password_is_refused_and_nobody_asked_for_it(authority, tmp_path):
    from cryptography.hazmat.primitives import serialization

    ours = authority.certificate("b.test")
    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidRequestError, match="the key without a password, that belong"):
        RefineClient("127.0.0.1:1", connection=ConnectionOptions(tls=Tls(None, ours.chain, locked)))


# --- Connections that die --------------------------------------------------------------------


def test_connection_that_falls_silent_is_noticed_by_keepalive(client_of, small):
    options = ConnectionOptions(retries=ONCE, keepalive=Keepalive(0.5, 0.5))
    with (
        FakeTriton(hang) as server,
        Wire(server.port) as wire,
        client_of(wire.address, connection=options) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.refine, **small)
        server.wait_for()
        wire.fall_silent()
        with pytest.raises(UnreachableError):
            call.result(PATIENCE_S)


@pytest.mark.parametrize("seconds", [1e-9, 1e12, math.inf])
def test_keepalive_of_any_length_is_taken(client_of, small, seconds):
    options = ConnectionOptions(keepalive=Keepalive(seconds, seconds))
    with FakeTriton() as server, client_of(server.address, connection=options) as client:
        assert client.refine(**small).labels is not None


def test_pings_are_rarer_than_a_server_puts_up_with():
    """gRPC's own limit, and Triton's, is one in five minutes."""
    assert ConnectionOptions().keepalive.interval_s > 300


def test_connection_that_is_cut_in_a_call_is_made_again(client_of, small):
    with (
        FakeTriton(hang) as server,
        Wire(server.port) as wire,
        client_of(wire.address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.refine, **small)
        assert not server.wait_for().ended.is_set()
        wire.cut()
        assert call.result(PATIENCE_S).labels is not None
        assert server.calls()[0].ended.wait(PATIENCE_S)
    assert len(server.calls()) == 2


def test_calls_take_turns_and_one_server_s_death_is_no_error(client_of, small):
    with (
        FakeTriton() as first,
        FakeTriton() as second,
        ThreadPoolExecutor(8) as pool,
        client_of([first.address, second.address]) as client,
    ):
        while not (first.calls() and second.calls()):  # until both are connected
            client.refine(**small)
        before = len(first.calls()), len(second.calls())
        for _ in range(10):
            client.refine(**small)
        assert (len(first.calls()), len(second.calls())) == (before[0] + 5, before[1] + 5)

        first.answers[:] = [hang] * 100
        count = len(first.calls())
        calls = [pool.submit(client.refine, **small) for _ in range(8)]
        first.wait_for(count + 4)
        first.stop()
        assert all(call.result(PATIENCE_S).labels is not None for call in calls)
        for _ in range(10):
            assert client.refine(**small).labels is not None
