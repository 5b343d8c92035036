"""Starts one `tritonserver`, waits until it is ready, and ends it without leaving anything.

`Server` is the context manager; `serve` is what the command line runs: it blocks until a signal
comes or the server ends.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from types import FrameType, TracebackType
from typing import Final

from sam_refine_deploy.errors import ServeError, StartCancelledError
from sam_refine_deploy.launcher.backend_directory import backend_directory
from sam_refine_deploy.launcher.find_server import TritonServer, find_tritonserver
from sam_refine_deploy.launcher.repository import check_repository
from sam_refine_deploy.launcher.server_log import failure_reason

logger = logging.getLogger(__name__)

SHARED_MEMORY: Final = Path("/dev/shm")
LEAST_SHARED_MEMORY_BYTES: Final = 256 * 2**20
"""Every tensor of a Python model goes through shared memory, some more than once."""
_ENVIRONMENT: Final = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime >= 1.29 would report to Microsoft
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # tensors of 100 MB in pages of 2 MB, not 4 KB
}
"""Variables that a server gets unless they are set already."""
_LAUNCH = Path(__file__).with_name("die_with_parent.py")
_START_POLL_S = 0.05
_SIGNAL_POLL_S = 0.2
_KILL_GRACE_S = 5.0
"""How long it may take to unload the models, which comes after the server's exit timeout."""


@dataclass(frozen=True)
class ServerOptions:
    """How to run a server. Raises `ServeError` for a value that no server could run with."""

    model_repository: Path
    host: str = "127.0.0.1"
    """IPv4 address, or a name of one, on which gRPC, HTTP and metrics listen."""
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    tritonserver: Path | None = None
    """The server's executable; None looks for one on PATH, then in the wheel."""
    start_timeout_s: float = 120
    exit_timeout_s: int = 30
    """How long requests in flight may take when the server is to end."""
    log_file: Path | None = None
    """File to append the server's log to; None keeps it only while the server runs."""
    extra_arguments: tuple[str, ...] = ()
    """Arguments for tritonserver, passed on as they are, after all others."""

    def __post_init__(self) -> None:
        ports = self.ports
        for name, port in ports.items():
            if not 1 <= port <= 65535:
                raise ServeError(f"{name} must be in [1, 65535], got {port}")
        if len(set(ports.values())) != len(ports):
            raise ServeError(f"ports must differ, got {', '.join(map(str, ports.values()))}")
        for name in ("start_timeout_s", "exit_timeout_s"):
            if not getattr(self, name) >= 0:
                raise ServeError(f"{name} must be >= 0, got {getattr(self, name)}")

    @property
    def ports(self) -> dict[str, int]:
        """The three ports by field name."""
        return {name: getattr(self, name) for name in ("grpc_port", "http_port", "metrics_port")}


class Server:
    """A running tritonserver, from `with Server(options) as server:` to the end of the block.

    Entering the block checks everything that can be checked beforehand, starts the server and
    returns when all models are ready. Leaving it lets requests in flight finish, ends the server
    and its stubs, and removes what it put on disk.

    If this process is killed, the server ends too (Linux, by SIGTERM), but the temporary directory
    stays. The kernel ties this to the thread that enters the block, so that thread must live as
    long as the block.
    """

    def __init__(self, options: ServerOptions, cancelled: Event | None = None) -> None:
        """Setting `cancelled` makes a start under way fail with `StartCancelledError`."""
        self.options = options
        self._cancelled = cancelled or Event()
        self._address = _ipv4_address(options.host)
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = options.log_file
        self._log_start_bytes = 0
        self._ready = False

    @property
    def grpc_address(self) -> str:
        """Address at which a client on this machine reaches gRPC: "127.0.0.1:8001"."""
        return self._reachable(self.options.grpc_port)

    @property
    def http_address(self) -> str:
        return self._reachable(self.options.http_port)

    @property
    def metrics_address(self) -> str:
        return self._reachable(self.options.metrics_port)

    @property
    def process_id(self) -> int:
        """Raises `ServeError` if it has not been started."""
        if self._process is None:
            raise ServeError("the server has not been started")
        return self._process.pid

    def __enter__(self) -> Server:
        options = self.options
        check_repository(options.model_repository)
        server = find_tritonserver(options.tritonserver)
        _check_ports(self._address, options.ports)
        _warn_of_little_shared_memory()
        with ExitStack() as stack:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="sam-refine-")))
            self._start(server, directory, stack)
            self._wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def poll(self) -> int | None:
        """The server's exit code if it has ended, negative for a signal; None while it runs."""
        return self._process.poll() if self._process else None

    def failure(self) -> ServeError:
        """The error to raise if the server has ended by itself."""
        return ServeError(f"tritonserver ended by itself {_ending(self.poll())}: {self._reason()}")

    def _start(self, server: TritonServer, directory: Path, stack: ExitStack) -> None:
        backends = backend_directory(server, directory)
        environment = {**_ENVIRONMENT, **os.environ, **server.environment}
        if server.stub is not None:
            _check_stub(backends / "python" / server.stub.name, environment)
        # The stubs import from the working directory too, so it must be empty.
        working_directory = directory / "empty"
        working_directory.mkdir()
        log_file = self._log_file = self.options.log_file or directory / "tritonserver.log"
        try:
            log = stack.enter_context(log_file.open("ab"))
        except OSError as error:
            raise ServeError(
                f"the log file {log_file} cannot be written: {error.strerror}"
            ) from error
        self._log_start_bytes = log.tell()
        shared_memory_prefix = f"sam_refine_{os.getpid()}_{uuid.uuid4().hex}_"
        arguments = self._arguments(server, backends, shared_memory_prefix)
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        stack.callback(_remove_shared_memory, shared_memory_prefix)
        stack.callback(self._end)
        self._process = subprocess.Popen(
            [*launch, *arguments],
            cwd=working_directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches only this process
        )

    def _arguments(self, server: TritonServer, backends: Path, prefix: str) -> list[str]:
        options = self.options
        return [
            str(server.executable),
            f"--model-repository={options.model_repository.resolve()}",
            f"--backend-directory={backends}",
            "--model-control-mode=none",
            f"--grpc-address={self._address}",
            f"--http-address={self._address}",
            f"--metrics-address={self._address}",
            f"--grpc-port={options.grpc_port}",
            f"--http-port={options.http_port}",
            f"--metrics-port={options.metrics_port}",
            f"--exit-timeout-secs={options.exit_timeout_s}",
            "--metrics-config=summary_latencies=true",
            "--rate-limit=execution_count",  # for the networks, which share the cores
            # A known prefix, so that nothing is left of a server that had to be killed.
            f"--backend-config=python,shm-region-prefix-name={prefix}python",
            f"--backend-config=onnxruntime,shm-region-prefix-name={prefix}onnxruntime",
            *options.extra_arguments,
        ]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.options.start_timeout_s
        while not _is_ready(f"http://{self.http_address}/v2/health/ready"):
            if self._cancelled.is_set():
                raise StartCancelledError("the start was cancelled")
            if self.poll() is not None:
                raise ServeError(
                    f"tritonserver did not start {_ending(self.poll())}: {self._reason()}"
                )
            if time.monotonic() > deadline:
                raise ServeError(
                    f"tritonserver was not ready after {self.options.start_timeout_s:g} s: "
                    f"{self._reason()}"
                )
            time.sleep(_START_POLL_S)
        if self.poll() is not None:  # another server answered at that address
            raise self.failure()
        self._ready = True

    def _end(self) -> None:
        """SIGTERM; after the exit timeout SIGKILL for whatever is left, stubs included."""
        if self._process is None:
            return
        process = self._process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            # A server that never was ready has no requests to wait for.
            process.wait(_KILL_GRACE_S + (self.options.exit_timeout_s if self._ready else 0))
        except subprocess.TimeoutExpired:
            logger.warning("tritonserver did not end in time and was killed")
        finally:
            _kill_group(process.pid)
            process.wait()

    def _reason(self) -> str:
        if self._log_file is None or not self._log_file.is_file():
            return "it left no log"
        with self._log_file.open("rb") as log:
            log.seek(self._log_start_bytes)
            reason = failure_reason(log.read().decode("utf-8", errors="replace"))
        return f"{reason}\n(log: {self._log_file})" if self.options.log_file else reason

    def _reachable(self, port: int) -> str:
        return f"{'127.0.0.1' if self._address == '0.0.0.0' else self._address}:{port}"


def serve(options: ServerOptions, on_ready: Callable[[Server], None]) -> int:
    """Run a server until SIGINT or SIGTERM; `on_ready` is called once, when all models are ready.

    Returns 0, or 1 if the server did not end cleanly within its exit timeout. Call it from the main
    thread: it replaces that thread's signal handlers until it returns. Raises `ServeError` if the
    server cannot start or ends by itself.
    """
    ended = Event()
    with _signals_set(ended):
        server = Server(options, cancelled=ended)
        try:
            with server:
                on_ready(server)
                while not ended.wait(_SIGNAL_POLL_S):
                    if server.poll() is not None:
                        raise server.failure()
        except StartCancelledError:
            return 0
        return 0 if server.poll() == 0 else 1


@contextmanager
def _signals_set(event: Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `event` inside the block."""

    def handle(number: int, frame: FrameType | None) -> None:
        event.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ipv4_address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])
    except OSError as error:
        raise ServeError(f"host must be an IPv4 address or a name of one, got {host!r}") from error


def _check_ports(address: str, ports: dict[str, int]) -> None:
    for name, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the server does: a port whose last connections are in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise ServeError(
                    f"{name} {port} on {address} cannot be used ({error.strerror}); "
                    "choose another one"
                ) from error


def _warn_of_little_shared_memory() -> None:
    if not SHARED_MEMORY.is_dir():
        return
    free_bytes = shutil.disk_usage(SHARED_MEMORY).free
    if free_bytes < LEAST_SHARED_MEMORY_BYTES:
        logger.warning(
            "%s has %d MiB free, large requests will fail; at least %d MiB is advisable "
            "(docker run --shm-size=1g)",
            SHARED_MEMORY,
            free_bytes // 2**20,
            LEAST_SHARED_MEMORY_BYTES // 2**20,
        )


def _check_stub(stub: Path, environment: dict[str, str]) -> None:
    """Raise `ServeError` if the stub lacks a library: the server would wait for it forever."""
    started = subprocess.run([stub], env=environment, capture_output=True, text=True, check=False)
    if started.returncode == 127:  # the dynamic loader's exit code
        raise ServeError(
            f"Triton's Python stub cannot start: {started.stderr.partition(': ')[2].strip()}; "
            "use a Python built with its shared library"
        )


def _is_ready(url: str) -> bool:
    try:
        with _opener.open(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


def _kill_group(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


def _remove_shared_memory(prefix: str) -> None:
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "(it still runs)"
    if exit_code < 0:
        return f"(signal {signal.Signals(-exit_code).name})"
    return f"(exit code {exit_code})"
