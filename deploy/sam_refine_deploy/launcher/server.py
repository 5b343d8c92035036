"""Starts one `tritonserver`, waits until it is ready, and ends it without leaving anything.

`Server` is the context manager. Who wants a server that stays up has it supervised:
`sam_refine_deploy.serve`.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Final

from sam_refine.contract import SAM_EMBED, SAM_REFINE
from sam_refine.contract.serving.heartbeat import read_beat
from sam_refine.contract.serving.keys import SHARED_MEMORY_KEY
from sam_refine.contract.serving.run_directory import (
    EMBEDDINGS,
    INSTANCES,
    RUN_DIRECTORY,
    SHARED_MEMORY,
)
from sam_refine.contract.serving.supervised import SUPERVISED
from sam_refine_deploy.errors import ServeError, StartCancelledError
from sam_refine_deploy.launcher.backend_directory import backend_directory
from sam_refine_deploy.launcher.find_server import TritonServer, find_tritonserver
from sam_refine_deploy.launcher.keys import new_key, published, wipe_from_arguments
from sam_refine_deploy.launcher.log_copy import LogCopy
from sam_refine_deploy.launcher.model_control import KEY_HEADER, ModelControl
from sam_refine_deploy.launcher.repository import check_repository, is_complete, usable_path
from sam_refine_deploy.launcher.run_directory import OWNER_LOCK, RunDirectory, run_directory
from sam_refine_deploy.launcher.server_log import failure_reason
from sam_refine_deploy.launcher.stub_environment import stub_path
from sam_refine_deploy.launcher.stubs import (
    SERVER_POINTS,
    STUB_POINTS,
    Newborns,
    Stub,
    end_sooner,
    stubs_of,
    wake,
)

logger = logging.getLogger(__name__)

MODEL_CONTROL_PROTOCOL: Final = "model-repository"
SHARED_MEMORY_PROTOCOL: Final = "shared-memory"
LEAST_SHARED_MEMORY_BYTES: Final = 256 * 2**20
"""Every tensor of a Python model goes through shared memory, some more than once."""
_ENVIRONMENT: Final = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime >= 1.29 would report to Microsoft
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # tensors of 100 MB in pages of 2 MB, not 4 KB
    "OPENBLAS_NUM_THREADS": "1",  # the second of a process only waits for its part: no gain
}
"""Variables that a server gets unless they are set already."""
_OTHER_MODELS = ("--model-repository", "--model-store")
"""Arguments that bring models which are not in the repository."""
_LAUNCH = Path(__file__).with_name("die_with_parent.py")
_POLL_S = 0.05
_TEND_S = 0.25
"""Between two looks at the processes of a server that starts: each is one at all of the machine."""
_WHOLE_S = 1.0
"""Between two looks at what was put into the private folder."""
_NOT_MISSED = (EMBEDDINGS, OWNER_LOCK)
"""Of the private folder: made again where it is gone, and not of this process."""
_IDLE_S = 0.5
"""Longer than a request needs from one model to the next."""
_CALLED_AGAIN_S = 2.5
"""A client of ours waits for 2 seconds at most before it calls again."""
_CONTROL_TIMEOUT_S = 5.0
"""For Triton to take note of what it is to do."""
_LOG_S = 1.0
"""For the last lines of a server that has ended to arrive."""
_END_S = 3.0
"""How long a server in which nothing is in flight may take to end, with its stubs,"""
_LEAST_END_S = 1.0
"""and without them."""


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
    log_to_stderr: bool = False
    """Copy the log to stderr, and empty its file where it grows beyond 16 MiB."""
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

    Models are loaded and unloaded by who has a key that is drawn at each start: this process.

    If this process is killed, the server ends too (Linux, by SIGTERM), and the next start removes
    what it has left. The kernel ties this to the thread that enters the block, so that thread must
    live as long as the block.
    """

    def __init__(
        self,
        options: ServerOptions,
        cancelled: Event | None = None,
        *,
        is_supervised: bool = False,
    ) -> None:
        """Setting `cancelled` makes a start under way fail with `StartCancelledError`.

        `is_supervised` is whether somebody replaces stubs that end: some then end themselves.
        """
        self._is_supervised = is_supervised
        self.options = options
        self._cancelled = cancelled or Event()
        self._address = _ipv4_address(options.host)
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = options.log_file
        self._log_start_bytes = 0
        self._log_copy: LogCopy | None = None
        self._ready = False
        self.ended_cleanly = False
        """Whether all requests were answered before it ended."""
        self._is_drained = False
        self._drained_by_s = math.inf
        """When requests in flight must have been answered."""
        self._unloaded: set[str] = set()
        self._control = ModelControl(self.http_address, new_key())
        self._memory_key = new_key()
        self._run: RunDirectory | None = None
        self._parts: tuple[Path, ...] = ()
        """What the server needs of its private folder for as long as it runs."""
        self._looked_whole_s = -math.inf
        self._newborns: Newborns | None = None

    @property
    def grpc_address(self) -> str:
        """Address at which a client on this machine reaches gRPC: "127.0.0.1:8001"."""
        return self.reachable(self.options.grpc_port)

    @property
    def http_address(self) -> str:
        return self.reachable(self.options.http_port)

    @property
    def metrics_address(self) -> str:
        return self.reachable(self.options.metrics_port)

    @property
    def process_id(self) -> int:
        """Raises `ServeError` if it has not been started."""
        if self._process is None:
            raise ServeError("the server has not been started")
        return self._process.pid

    @property
    def run_directory(self) -> Path:
        """Its private folder. Raises `ServeError` if it has not been started."""
        if self._run is None:
            raise ServeError("the server has not been started")
        return self._run.path

    def stubs(self) -> list[Stub]:
        """The Python stubs that live now."""
        return stubs_of(self.process_id)

    def first_stubs(self) -> list[Stub]:
        """Those with which it became ready, among them such as have died since."""
        return self._newborns.born() if self._newborns else []

    def missed_shared_memory_bytes(self) -> int:
        """What belongs to no stub that lives, where that is more than /dev/shm has left; else 0."""
        regions = {} if self._run is None else self._run.shared_memory()
        free_bytes = _free_shared_memory_bytes()
        if sum(regions.values()) <= free_bytes:
            return 0  # without a look at all processes
        used = {stub.region for stub in self.stubs()}
        lost_bytes = sum(size for name, size in regions.items() if name not in used)
        return lost_bytes if lost_bytes > free_bytes else 0

    def is_whole(self) -> bool:
        """Whether all is there that the server needs of its private folder; looked at each second.

        Without it no process starts any more, and nobody knows what one works on.
        """
        now_s = time.monotonic()
        if now_s - self._looked_whole_s < _WHOLE_S:
            return True
        self._looked_whole_s = now_s
        return all(map(os.path.lexists, self._parts))

    def __enter__(self) -> Server:
        options = self.options
        check_repository(options.model_repository)
        server = find_tritonserver(options.tritonserver)
        _warn_of_little_shared_memory()
        with ExitStack() as stack:
            self._run = stack.enter_context(run_directory())
            _check_ports(self._address, options.ports)
            if not _is_restricted(SHARED_MEMORY_PROTOCOL, options.extra_arguments):
                stack.enter_context(published(self._memory_key, options.grpc_port))
            self._start(server, self._run, stack)
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

    def reload(self, model: str, timeout_s: float, cancelled: Event) -> None:
        """Give a model fresh stubs, while the others go on. Raises `ServeError`."""
        self._unloaded.discard(model)
        self._control.reload(model, min(timeout_s, self._remaining_s()), cancelled)
        self._spare_server()
        self._forget_log()  # meanwhile Triton misses the model, and says so

    def says_ready(self, timeout_s: float = 1.0) -> bool | None:
        """Whether the server itself says that its models are ready; None if it does not answer."""
        try:
            with _opener.open(f"http://{self.http_address}/v2/health/ready", timeout=timeout_s):
                return True
        except urllib.error.HTTPError:
            return False
        except OSError:
            return None

    def kill(self) -> None:
        """End a server that does not answer, requests in flight and all."""
        _kill_group(self.process_id)

    def drain(self, tend: Callable[[], Collection[str]] = tuple) -> bool:
        """Take no more requests and wait until those in flight are answered, inner calls included.

        Whether they all were, within the exit timeout. Triton itself, told to end, refuses the
        inner calls of requests that it still works on. `tend` is called again and again meanwhile
        and returns the models that are being loaded anew.
        """
        end_s = time.monotonic() + self.options.exit_timeout_s
        self._drained_by_s = min(self._drained_by_s, end_s)
        models = (SAM_REFINE, SAM_EMBED)  # the second is called on behalf of the first
        self._is_drained = all(self._empties(model.name, tend) for model in models)
        return self._is_drained

    def has_unloaded(self, model: str) -> bool:
        """Whether the server was told to end a model's stubs when their requests are answered."""
        return model in self._unloaded

    def _empties(self, model: str, tend: Callable[[], Collection[str]]) -> bool:
        """Unload a model and wait until no stub has anything to do."""
        unload_s, idle_since_s = time.monotonic(), None
        while self.poll() is None and (now_s := time.monotonic()) < self._drained_by_s:
            healed, stubs = tend(), self.stubs()
            self._wake(stubs)
            if model in healed:
                unload_s = now_s + _CALLED_AGAIN_S  # by those whose requests were lost by that
            elif not self.has_unloaded(model) and now_s >= unload_s and not healed:
                try:
                    self._unload(model, _CONTROL_TIMEOUT_S)
                except ServeError as error:
                    self._unloaded.discard(model)
                    logger.warning("the server could not be asked to end its requests: %s", error)
                    return False
            if self._tells_work():
                is_busy = healed or any(map(self.is_answering, stubs))
            else:  # Triton ends stubs that have answered everything
                is_busy = any(stub.model == model for stub in stubs)
            if is_busy or not self.has_unloaded(model):
                idle_since_s = None
            elif idle_since_s is None:
                idle_since_s = now_s
            elif now_s - idle_since_s > _IDLE_S:
                return True
            time.sleep(_POLL_S)
        return False

    def _wake(self, stubs: Iterable[Stub]) -> None:
        """Tell tritonserver and its stubs to go on, should somebody have stopped them."""
        for process_id in (self.process_id, *(stub.process_id for stub in stubs)):
            wake(process_id)

    def _unload(self, model: str, timeout_s: float) -> None:
        self._unloaded.add(model)
        self._control.unload(model, timeout_s)

    def _tells_work(self) -> bool:
        """Whether stubs can say what they work on: somebody may have removed the folder."""
        return (self.run_directory / INSTANCES).is_dir()

    def _remaining_s(self) -> float:
        """Until it must be drained."""
        return max(0.0, self._drained_by_s - time.monotonic())

    def is_answering(self, stub: Stub) -> bool:
        """Whether a stub works on a request right now."""
        beat = read_beat(self.run_directory, stub.process_id)
        return beat is not None and beat.answering_since_s is not None

    def _start(self, server: TritonServer, run: RunDirectory, stack: ExitStack) -> None:
        directory = run.path
        backends = backend_directory(server, directory)
        environment = {
            **_ENVIRONMENT,
            **os.environ,
            **server.environment,
            RUN_DIRECTORY: str(directory),
        }
        environment.pop(SUPERVISED, None)
        if self._is_supervised:
            environment[SUPERVISED] = "1"
        if server.stub is not None:
            environment["PATH"] = stub_path(run, environment["PATH"])
        for folder in (INSTANCES, EMBEDDINGS):
            (directory / folder).mkdir(mode=0o700)
        if server.stub is not None:
            _check_stub(backends / "python" / server.stub.name, environment)
        # The stubs import from the working directory too, so it must be empty.
        working_directory = directory / "empty"
        working_directory.mkdir()
        arguments = self._arguments(server, backends, run)
        made = (path for path in directory.rglob("*") if path.suffix != ".pyc")
        self._parts = tuple(path for path in made if path.name not in _NOT_MISSED)
        log_file = self._log_file = self.options.log_file or directory / "tritonserver.log"
        try:
            log = stack.enter_context(log_file.open("ab"))
        except OSError as error:
            raise ServeError(
                f"the log file {log_file} cannot be written: {error.strerror}"
            ) from error
        self._log_start_bytes = log.tell()
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        stack.callback(self._end)
        self._process = subprocess.Popen(
            [*launch, *arguments],
            cwd=working_directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.options.log_to_stderr else log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches only this process
        )
        end_sooner(self.process_id, SERVER_POINTS)
        if self._process.stdout is not None:
            self._log_copy = LogCopy(self._process.stdout, log)

    def _arguments(self, server: TritonServer, backends: Path, run: RunDirectory) -> list[str]:
        options, prefix = self.options, run.shared_memory_prefix
        return [
            str(server.executable),
            f"--model-repository={usable_path(options.model_repository, run)}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            "--load-model=*",
            *self._completion(),
            *self._restrictions(),
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

    def _completion(self) -> Iterator[str]:
        """Where nothing is to be completed, half as many processes start."""
        options = self.options
        others = any(word.startswith(_OTHER_MODELS) for word in options.extra_arguments)
        if not others and is_complete(options.model_repository):
            yield "--disable-auto-complete-config"

    def _restrictions(self) -> Iterator[str]:
        """Who has no key loads no code, reads nobody's shared memory, and changes no settings."""
        control, memory = (KEY_HEADER, self._control.key), (SHARED_MEMORY_KEY, self._memory_key)
        keys = {MODEL_CONTROL_PROTOCOL: control, "logging": control, "trace": control}
        keys[SHARED_MEMORY_PROTOCOL] = memory
        for protocol, (name, key) in keys.items():
            is_ours = protocol == MODEL_CONTROL_PROTOCOL  # without it nothing could be healed
            if not is_ours and _is_restricted(protocol, self.options.extra_arguments):
                continue
            yield f"--grpc-restricted-protocol={protocol}:{name}={key}"
            yield f"--http-restricted-api={protocol}:{name}={key}"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.options.start_timeout_s
        are_wiped = False
        newborns = self._newborns = Newborns(self.process_id)
        tended_s = -math.inf
        while not self.says_ready():
            if not are_wiped and self._has_logged():  # so it has read its arguments
                self._wipe_keys()
                are_wiped = True
            if self._cancelled.is_set():
                raise StartCancelledError("the start was cancelled")
            if self.poll() is not None:
                raise ServeError(
                    f"tritonserver did not start {_ending(self.poll())}: {self._reason()}"
                )
            wake(self.process_id)
            now_s = time.monotonic()
            if now_s - tended_s > _TEND_S:
                tended_s = now_s
                if (dead := newborns.tend()) is not None:
                    raise ServeError(
                        f"tritonserver did not start: the process of {dead} died while it "
                        f"started, killed for want of memory perhaps: {self._reason()}"
                    )
            if now_s > deadline:
                raise ServeError(
                    f"tritonserver was not ready after {self.options.start_timeout_s:g} s: "
                    f"{self._reason()}"
                )
            time.sleep(_POLL_S)
        newborns.tend()
        if not are_wiped:
            self._wipe_keys()
        if self.poll() is not None:  # another server answered at that address
            raise self.failure()
        self._ready = True
        self._spare_server()
        self._forget_log()

    def _spare_server(self) -> None:
        """Where memory is short, let a stub end: a fresh one takes two seconds."""
        for stub in self.stubs():
            end_sooner(stub.process_id, STUB_POINTS)

    def _end(self) -> None:
        """Requests in flight first, then SIGTERM, then SIGKILL for whatever is left, with stubs."""
        if self._process is None:
            return
        process = self._process
        has_ended = process.poll() is not None
        is_idle = not has_ended and (not self._ready or self._is_drained or self.drain())
        end_s = time.monotonic() + _END_S
        try:
            if self._is_drained:  # else it was still starting
                self._end_stubs(end_s)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            # With nothing in flight it waits for idle connections and for stubs that are dead.
            left_s = max(end_s - time.monotonic(), _LEAST_END_S)
            process.wait(left_s + (0 if is_idle else self._remaining_s()))
            self.ended_cleanly = is_idle or process.returncode == 0
        except subprocess.TimeoutExpired:
            self.ended_cleanly = is_idle
            if not is_idle:
                logger.warning("tritonserver did not end in time and was killed")
        finally:
            _kill_group(process.pid)
            process.wait()
            if self._log_copy is not None:
                self._log_copy.wait(_LOG_S)

    def _end_stubs(self, end_s: float) -> None:
        """Unload what is still loaded: told to end, Triton looks but once a second for stubs."""
        while self.poll() is None and (stubs := self.stubs()):
            self._wake(stubs)
            for model in {stub.model for stub in stubs} - self._unloaded:
                with suppress(ServeError):
                    self._unload(model, max(end_s - time.monotonic(), _POLL_S))
            if time.monotonic() > end_s:
                return
            time.sleep(_POLL_S)

    def _forget_log(self) -> None:
        """What was logged so far is no reason for what comes."""
        assert self._log_file is not None
        with suppress(OSError):
            self._log_start_bytes = self._log_file.stat().st_size

    def _has_logged(self) -> bool:
        assert self._log_file is not None
        try:
            return self._log_file.stat().st_size > self._log_start_bytes
        except FileNotFoundError:  # it was removed just now
            return False

    def _wipe_keys(self) -> None:
        wipe_from_arguments(self.process_id, (self._control.key, self._memory_key))

    def _reason(self) -> str:
        if self._log_file is None or not self._log_file.is_file():
            return "it left no log"
        if self._log_copy is not None and self.poll() is not None:
            self._log_copy.wait(_LOG_S)
        start_bytes = self._log_start_bytes
        if start_bytes > self._log_file.stat().st_size:
            start_bytes = 0  # it was emptied since
        with self._log_file.open("rb") as log:
            log.seek(start_bytes)
            reason = failure_reason(log.read().decode("utf-8", errors="replace"))
        return f"{reason}\n(log: {self._log_file})" if self.options.log_file else reason

    def reachable(self, port: int) -> str:
        """The address of a port of the server's host for this machine."""
        return f"{'127.0.0.1' if self._address == '0.0.0.0' else self._address}:{port}"


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


def _free_shared_memory_bytes() -> int:
    return shutil.disk_usage(SHARED_MEMORY).free


def _warn_of_little_shared_memory() -> None:
    if not SHARED_MEMORY.is_dir():
        return
    free_bytes = _free_shared_memory_bytes()
    if free_bytes < LEAST_SHARED_MEMORY_BYTES:
        logger.warning(
            "%s has %d MiB free, large requests will fail; at least %d MiB is advisable "
            "(docker run --shm-size=1g)",
            SHARED_MEMORY,
            free_bytes // 2**20,
            LEAST_SHARED_MEMORY_BYTES // 2**20,
        )


def _is_restricted(protocol: str, arguments: Iterable[str]) -> bool:
    """Whether a deployment's own arguments say who may use one of Triton's protocols."""
    return any("restricted" in word and protocol in word for word in arguments)


def _check_stub(stub: Path, environment: dict[str, str]) -> None:
    """Raise `ServeError` if the stub lacks a library: the server would wait for it forever."""
    started = subprocess.run([stub], env=environment, capture_output=True, text=True, check=False)
    if started.returncode == 127:  # the dynamic loader's exit code
        raise ServeError(
            f"Triton's Python stub cannot start: {started.stderr.partition(': ')[2].strip()}; "
            "use a Python built with its shared library"
        )


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


def _kill_group(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "(it still runs)"
    if exit_code < 0:
        return f"(signal {signal.Signals(-exit_code).name})"
    return f"(exit code {exit_code})"
