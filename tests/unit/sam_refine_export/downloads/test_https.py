"""Downloads from a real server on the loopback, which misbehaves as each test asks."""

import fcntl
import hashlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sam_refine_export import ExportError
from sam_refine_export.downloads import https
from sam_refine_export.downloads.https import fetch_checkpoint
from sam_refine_export.variants import PublishedCheckpoint

BODY = random.Random(0).randbytes(10_000)
BLOCK_BYTES = 1000


class Handler(BaseHTTPRequestHandler):
    """Answers with the next of the server's `answers`, or properly when there are none left."""

    server: Any

    def do_GET(self):
        self.server.requests.append((self.path, self.headers["Range"]))
        answer = self.server.answers.pop(0) if self.server.answers else send
        answer(self)

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.answers = []

    @property
    def ranges(self):
        return [requested for _, requested in self.requests]

    def url(self, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.server_port}/sam.pth"


def asked_start(handler):
    requested = handler.headers["Range"]
    return int(requested.removeprefix("bytes=").removesuffix("-")) if requested else None


def send(handler, until=None):
    """What is asked for; with `until` the connection ends early, there."""
    start = asked_start(handler)
    if start is None:
        handler.head(200, Content_Length=len(BODY))
    else:
        send_head_206(handler, start, len(BODY) - start)
    handler.wfile.write(BODY[start or 0 : until])


def send_head_206(handler, start, length):
    handler.head(
        206,
        Content_Length=length,
        Content_Range=f"bytes {start}-{start + length - 1}/{len(BODY)}",
    )


def send_all(handler):
    """Whatever range was asked for."""
    handler.head(200, Content_Length=len(BODY))
    handler.wfile.write(BODY)


def send_other_range(handler):
    send_head_206(handler, 1, len(BODY) - 1)
    handler.wfile.write(BODY[1:])


def send_range_from_0(handler):
    send_head_206(handler, 0, len(BODY))
    handler.wfile.write(BODY)


def send_unnamed_range(handler):
    handler.head(206, Content_Length=10)
    handler.wfile.write(BODY[:10])


def send_short_range(handler):
    """Fewer bytes than asked for, which a server may do."""
    start = asked_start(handler) or 0
    send_head_206(handler, start, 3000)
    handler.wfile.write(BODY[start : start + 3000])


def send_without_length(handler, body=BODY):
    handler.head(200)
    handler.wfile.write(body)


def send_broken_chunks(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.head(200, Transfer_Encoding="chunked", Connection="close")
    handler.wfile.write(b"7d0\r\n" + BODY[:2000] + b"\r\n7d0\r\n")
    handler.close_connection = True


def send_no_gzip(handler):
    handler.head(200, Content_Encoding="gzip", Content_Length=100)
    handler.wfile.write(BODY[:100])


def send_too_long_range(handler):
    start = asked_start(handler)
    send_head_206(handler, start, 2 * len(BODY))
    handler.wfile.write(2 * BODY)


def send_nothing(handler):
    handler.close_connection = True


def send_late(handler):
    threading.Event().wait(0.3)
    send_nothing(handler)


def send_status(status):
    return partial(Handler.head, status=status, Content_Length=0)


def redirect(url):
    return partial(Handler.head, status=302, Location=url, Content_Length=0)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(https, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(https, "_TIMEOUTS_S", (5, 5))
    monkeypatch.setattr(https, "_BLOCK_BYTES", BLOCK_BYTES)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def running():
    """Run a server until the test ends."""
    servers = []

    def run(server):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield run
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(running):
    return running(Server())


@pytest.fixture
def published(server):
    checksum = hashlib.sha256(BODY).hexdigest()
    return PublishedCheckpoint(
        "Someone", "sam.pth", server.url(), checksum, len(BODY), "Apache-2.0"
    )


@pytest.fixture
def part(tmp_path):
    """Where the part that is there lies; the first 4000 bytes of the file."""
    path = tmp_path / "sam.pth.part"
    path.write_bytes(BODY[:4000])
    return path


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_fetch_fresh_directory_holds_the_file_and_nothing_else(server, published, tmp_path):
    seen = []
    path = fetch_checkpoint(
        published, tmp_path / "a/b", lambda *done_and_total: seen.append(done_and_total)
    )
    assert path == tmp_path / "a/b/sam.pth"
    assert path.read_bytes() == BODY
    assert names(tmp_path / "a/b") == ["sam.pth"]
    assert seen == [(done, len(BODY)) for done in range(0, len(BODY) + 1, BLOCK_BYTES)]
    assert server.ranges == [None]


def test_fetch_intact_file_is_not_fetched_again(server, published, tmp_path):
    (tmp_path / "sam.pth").write_bytes(BODY)
    seen = []
    assert (
        fetch_checkpoint(published, tmp_path, lambda *both: seen.append(both))
        == tmp_path / "sam.pth"
    )
    assert seen == [(len(BODY), len(BODY))]
    assert server.requests == []


def test_fetch_damaged_file_is_replaced(published, tmp_path):
    (tmp_path / "sam.pth").write_bytes(BODY[:-1] + b"?")
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY


def test_fetch_part_there_is_resumed(server, published, tmp_path, part):
    seen = []
    path = fetch_checkpoint(
        published, tmp_path, lambda done_bytes, total_bytes: seen.append(done_bytes)
    )
    assert path.read_bytes() == BODY
    assert seen[:2] == [4000, 5000]
    assert server.ranges == ["bytes=4000-"]
    assert names(tmp_path) == ["sam.pth"]


def test_fetch_complete_part_needs_no_server(server, published, tmp_path, part):
    part.write_bytes(BODY)
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.requests == []


def test_fetch_too_long_part_starts_over(server, published, tmp_path, part):
    part.write_bytes(BODY + b"!")
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.ranges == [None]


@pytest.mark.parametrize(
    ("answer", "then_asked"),
    [
        (send_all, []),
        (send_range_from_0, []),
        (send_other_range, [None]),
        (send_unnamed_range, [None]),
        (send_status(416), [None]),
    ],
)
def test_fetch_server_does_not_resume_starts_over(
    server, published, tmp_path, part, answer, then_asked
):
    server.answers = [answer]
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.ranges == ["bytes=4000-", *then_asked]


@pytest.mark.parametrize(
    ("answer", "then_asked"),
    [
        (partial(send, until=6000), "bytes=6000-"),
        (partial(send_without_length, body=BODY[:6000]), "bytes=6000-"),
        (send_short_range, "bytes=3000-"),
        (send_broken_chunks, "bytes=2000-"),
        (send_no_gzip, None),
        (send_nothing, None),
        (send_late, None),
        (send_status(429), None),
        (send_status(500), None),
        (send_status(503), None),
    ],
)
def test_fetch_failed_attempt_is_followed_by_one_that_resumes(
    server, published, tmp_path, monkeypatch, answer, then_asked
):
    monkeypatch.setattr(https, "_TIMEOUTS_S", (5, 0.1))
    server.answers = [answer]
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, then_asked]


def test_fetch_many_broken_connections_each_resumes_where_the_last_ended(
    server, published, tmp_path
):
    server.answers = [partial(send, until=until) for until in (2000, 4000, 5000, 9000)]
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, *(f"bytes={n}-" for n in (2000, 4000, 5000, 9000))]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (send_status(503), "the server answers 503 Service Unavailable"),
        (partial(send, until=4000), "the server stopped after 4000 of 10000 bytes"),
        (send_nothing, r"the connection failed \(Remote end closed connection without response\)"),
        (send_late, r"the connection failed \(timed out\)"),
    ],
)
def test_fetch_every_attempt_fails_says_why_and_keeps_the_part(
    server, published, tmp_path, part, monkeypatch, answer, reason
):
    monkeypatch.setattr(https, "_TIMEOUTS_S", (5, 0.1))
    server.answers = [answer] * 10
    message = (
        rf"^{published.url} could not be fetched in 6 attempts: {reason}; "
        "running the command again resumes$"
    )
    with pytest.raises(ExportError, match=message):
        fetch_checkpoint(published, tmp_path)
    assert server.ranges == ["bytes=4000-"] * 6
    assert part.read_bytes() == BODY[:4000]


def test_fetch_other_part_every_time_is_given_up(server, published, tmp_path, part):
    server.answers = [send_other_range] * 10
    with pytest.raises(ExportError, match="6 attempts: the server sent another part of the file "):
        fetch_checkpoint(published, tmp_path)
    assert server.ranges == ["bytes=4000-", *[None] * 5]


def test_fetch_nobody_listens_says_so(published, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    absent = replace(published, url=f"http://127.0.0.1:{port}/sam.pth")
    with pytest.raises(ExportError, match=r"the connection failed \(Connection refused\); running"):
        fetch_checkpoint(absent, tmp_path)


@pytest.mark.parametrize(
    ("status", "phrase"), [(403, "Forbidden"), (404, "Not Found"), (204, "No Content")]
)
def test_fetch_refused_fails_at_once_and_keeps_the_part(
    server, published, tmp_path, part, status, phrase
):
    server.answers = [send_status(status)]
    message = rf"/sam\.pth cannot be fetched: the server answers {status} {phrase}$"
    with pytest.raises(ExportError, match=message):
        fetch_checkpoint(published, tmp_path)
    assert len(server.requests) == 1
    assert part.read_bytes() == BODY[:4000]


def test_fetch_offer_of_another_size_is_refused_and_keeps_the_part(
    server, published, tmp_path, part
):
    larger = replace(published, size_bytes=20_000)
    server.answers = [send_all]
    with pytest.raises(ExportError, match=r"/sam\.pth has 10000 bytes, expected 20000$"):
        fetch_checkpoint(larger, tmp_path)
    assert part.read_bytes() == BODY[:4000]


@pytest.mark.parametrize(
    "answer", [partial(send_without_length, body=2 * BODY), send_too_long_range]
)
def test_fetch_server_sends_more_is_refused_and_never_written(
    server, published, tmp_path, part, answer
):
    largest = 0

    def measure(done_bytes, total_bytes):
        nonlocal largest
        largest = max(largest, part.stat().st_size)

    server.answers = [answer]
    with pytest.raises(ExportError, match=r"/sam\.pth has more than the 10000 bytes expected$"):
        fetch_checkpoint(published, tmp_path, measure)
    assert largest == len(BODY)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_fetch_wrong_checksum_is_refused_and_deleted(server, published, tmp_path):
    other = replace(published, sha256="0" * 64)
    message = (
        rf"^{published.url} came with the sha256 {published.sha256}, expected 0{{64}}; "
        "it was deleted, and running the command again starts over$"
    )
    with pytest.raises(ExportError, match=message):
        fetch_checkpoint(other, tmp_path)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_fetch_part_of_another_file_is_refused_then_fetched_anew(published, tmp_path, part):
    part.write_bytes(b"?" * 4000)
    with pytest.raises(ExportError, match="running the command again starts over"):
        fetch_checkpoint(published, tmp_path)
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY


def test_fetch_interrupted_leaves_a_part_that_is_resumed(server, published, tmp_path):
    def interrupt(done_bytes, total_bytes):
        if done_bytes == 7000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_checkpoint(published, tmp_path, interrupt)
    assert names(tmp_path) == ["sam.pth.part"]
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=7000-"]


def test_fetch_twice_at_once_refuses_the_second_and_finishes_the_first(server, published, tmp_path):
    refused = []

    def again(done_bytes, total_bytes):
        with pytest.raises(ExportError, match=r"sam\.pth\.part is already being fetched by an"):
            fetch_checkpoint(published, tmp_path)
        refused.append(done_bytes)

    assert fetch_checkpoint(published, tmp_path, again).read_bytes() == BODY
    assert len(refused) == 11
    assert len(server.requests) == 1


@pytest.mark.parametrize("finish", [os.remove, lambda part: part.rename(part.with_suffix(""))])
def test_fetch_other_finishes_before_the_lock_is_refused(
    published, tmp_path, part, monkeypatch, finish
):
    lock = fcntl.flock

    def finish_then_lock(file, operation):
        finish(part)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", finish_then_lock)
    with pytest.raises(ExportError, match="is already being fetched"):
        fetch_checkpoint(published, tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 KiB, and a function that makes it large."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", directory]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield (
        directory,
        lambda: subprocess.run(["mount", "-o", "remount,size=1m", directory], check=True),
    )
    subprocess.run(["umount", directory], check=True)


def test_fetch_full_disk_keeps_the_part_and_resumes(server, published, small_disk):
    directory, enlarge = small_disk
    message = (
        r"^the download to \S+/sam\.pth\.part failed: No space left on device; "
        "once that is put right, running the command again resumes$"
    )
    with pytest.raises(ExportError, match=message):
        fetch_checkpoint(published, directory)
    assert (directory / "sam.pth.part").read_bytes() == BODY[:8192]
    assert len(server.requests) == 1
    enlarge()
    assert fetch_checkpoint(published, directory).read_bytes() == BODY
    assert server.ranges == [None, "bytes=8192-"]


def test_fetch_directory_cannot_be_made_names_it(published, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"to \S+/file/a/sam\.pth\.part failed: Not a directory"):
        fetch_checkpoint(published, tmp_path / "file" / "a")


def test_fetch_redirect_within_the_scheme_keeps_the_range(server, published, tmp_path, part):
    server.answers = [redirect("/elsewhere")]
    assert fetch_checkpoint(published, tmp_path).read_bytes() == BODY
    assert server.requests == [("/sam.pth", "bytes=4000-"), ("/elsewhere", "bytes=4000-")]


def test_fetch_redirect_without_end_is_given_up_at_once(server, published, tmp_path):
    server.answers = [redirect("/sam.pth")] * 100
    with pytest.raises(ExportError, match=r"cannot be fetched: Exceeded 30 redirects\.$"):
        fetch_checkpoint(published, tmp_path)


@pytest.fixture
def https_server(running, tmp_path):
    """A server behind TLS, and the file that has its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return running(server), certificate


def test_fetch_redirect_from_https_to_http_is_refused(
    https_server, server, published, tmp_path, monkeypatch
):
    secure_server, certificate = https_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure = replace(published, url=secure_server.url("https"))
    secure_server.answers = [redirect(server.url())]
    with pytest.raises(ExportError, match=r"^https:\S+ leads to an address that is not https$"):
        fetch_checkpoint(secure, tmp_path / "refused")
    assert server.requests == []
    assert fetch_checkpoint(secure, tmp_path / "direct").read_bytes() == BODY


def test_fetch_certificate_not_trusted_is_an_error(https_server, published, tmp_path):
    secure_server, _ = https_server
    secure = replace(published, url=secure_server.url("https"))
    with pytest.raises(ExportError, match=r"CERTIFICATE_VERIFY_FAILED"):
        fetch_checkpoint(secure, tmp_path)


def test_fetch_takes_the_proxy_of_the_environment(server, published, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url())
    distant = replace(published, url="http://sam.invalid/sam.pth")
    assert fetch_checkpoint(distant, tmp_path).read_bytes() == BODY
    assert server.requests == [("http://sam.invalid/sam.pth", None)]
