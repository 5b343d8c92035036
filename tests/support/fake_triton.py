"""A server that speaks Triton's protocol, does what it is told, and writes down what it sees."""

from __future__ import annotations

import math
import mmap
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from sam_refine.contract import MODELS, NETWORKS_SHA256, SAM_REFINE, ModelSpec

PATIENCE_S = 60
"""How long a test waits for what comes at once, on a machine that has better things to do."""

REGIONS = 2
"""Q and N of the answers: regions, and predictions."""

Answer = Callable[["FakeTriton", Any, Any], Any]
"""answer(server, request, context) -> response; it may fail by `context`."""


@dataclass
class Seen:
    """A call as the server saw it."""

    method: str
    request: Any
    headers: dict[str, str]
    time_remaining_s: float
    """Until the caller's deadline; some 1e18 where there is none."""
    arrived_s: float
    """By `time.monotonic`."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the call is over for the server: answered, failed, cancelled or cut off."""


class FakeTriton(GRPCInferenceServiceServicer):
    """Inside a `with` block it listens at `address`.

    Each of `answers` answers one inference, in their order; those beyond them get `right`.
    `statuses` has a status for other methods that shall fail; those in `hangs` do their work, and
    then do not answer. `models` are the states and reasons of the models that it has; all are ready
    as it starts.
    """

    def __init__(
        self, *answers: Answer, port: int = 0, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self.answers = list(answers)
        self.statuses: dict[str, grpc.StatusCode] = {}
        self.hangs: set[str] = set()
        self.seen: list[Seen] = []
        self.models = {model.name: ("READY", "") for model in MODELS}
        self.configs = {model.name: model_config(model) for model in MODELS}
        self.regions: dict[str, mmap.mmap] = {}
        """Shared memory by its name, mapped as Triton does."""
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._ending = threading.Event()
        # Each hanging call has a thread.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(32), options=options)
        add_GRPCInferenceServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{port}"
        self.port = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeTriton:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End as a server that is killed: calls in flight are cut off."""
        self._ending.set()
        self._server.stop(None).wait()

    def say_networks(self, checksum: str) -> None:
        """Have the config of `sam_refine` say which networks are served."""
        self.configs[SAM_REFINE.name].parameters[NETWORKS_SHA256].string_value = checksum

    def calls(self, method: str = "ModelInfer") -> list[Seen]:
        with self._lock:
            return [seen for seen in self.seen if seen.method == method]

    def wait_for(self, count: int = 1, method: str = "ModelInfer") -> Seen:
        """The last of the first `count` calls, once they have come. Raises `TimeoutError`."""

        def came() -> list[Seen]:
            return [seen for seen in self.seen if seen.method == method]

        with self._came:
            if not self._came.wait_for(lambda: len(came()) >= count, timeout=PATIENCE_S):
                raise TimeoutError(f"{len(came())} of {count} calls of {method} came")
            return came()[count - 1]

    # --- What answers may do ------------------------------------------------------------------

    def hold(self, context: Any, seconds: float = math.inf) -> None:
        """Do nothing for some time, or until the call or the server ends."""
        over = threading.Event()
        if context.add_callback(over.set):
            deadline_s = time.monotonic() + seconds
            while not (over.is_set() or self._ending.is_set()) and time.monotonic() < deadline_s:
                over.wait(min(0.02, max(0.0, deadline_s - time.monotonic())))

    # --- Triton's protocol --------------------------------------------------------------------

    def ModelInfer(self, request: Any, context: Any) -> Any:
        with self._lock:  # before anybody hears that the call has come
            answer = self.answers.pop(0) if self.answers else right
        with self._seen("ModelInfer", request, context):
            return answer(self, request, context)

    def ServerLive(self, request: Any, context: Any) -> Any:
        with self._seen("ServerLive", request, context):
            return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        with self._seen("ServerReady", request, context):
            states = {state for state, _ in self.models.values()}
            return pb.ServerReadyResponse(ready=states == {"READY"})

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        with self._seen("ServerMetadata", request, context):
            return pb.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        with self._seen("ModelMetadata", request, context):
            return pb.ModelMetadataResponse(name=request.name, versions=["1"])

    def ModelReady(self, request: Any, context: Any) -> Any:
        with self._seen("ModelReady", request, context):
            state, _ = self.models.get(request.name, ("MISSING", ""))
            return pb.ModelReadyResponse(ready=state == "READY")

    def ModelConfig(self, request: Any, context: Any) -> Any:
        with self._seen("ModelConfig", request, context):
            return pb.ModelConfigResponse(config=self.configs[request.name])

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        with self._seen("RepositoryIndex", request, context):
            response = pb.RepositoryIndexResponse()
            for name, (state, reason) in self.models.items():
                response.models.add(name=name, version="1", state=state, reason=reason)
            return response

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        with (
            self._seen("SystemSharedMemoryRegister", request, context),
            Path("/dev/shm", request.key.lstrip("/")).open("r+b") as file,
        ):
            self.regions[request.name] = mmap.mmap(file.fileno(), request.byte_size)
            return pb.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        with self._seen("SystemSharedMemoryUnregister", request, context):
            self.regions.pop(request.name, None)
            return pb.SystemSharedMemoryUnregisterResponse()

    def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        with self._seen("SystemSharedMemoryStatus", request, context):
            regions = {name: {"name": name} for name in self.regions}
            return pb.SystemSharedMemoryStatusResponse(regions=regions)

    @contextmanager
    def _seen(self, method: str, request: Any, context: Any) -> Iterator[None]:
        """Write a call down, do the block's work, and hold back the answer where it shall hang."""
        seen = Seen(
            method,
            request,
            dict(context.invocation_metadata()),
            context.time_remaining(),
            time.monotonic(),
        )
        context.add_callback(seen.ended.set)
        with self._came:
            self.seen.append(seen)
            self._came.notify_all()
        if method in self.statuses:
            context.abort(self.statuses[method], f"{method} fails")
        yield
        if method in self.hangs:
            self.hold(context)


def model_config(model: ModelSpec) -> Any:
    """What the contract has a model's config say of its tensors."""
    config = ModelConfig(name=model.name, backend="python", max_batch_size=0)
    for specs, tensors in ((model.inputs, config.input), (model.outputs, config.output)):
        for spec in specs:
            datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
            tensors.add(
                name=spec.name, data_type=DataType.Value(f"TYPE_{datatype}"), dims=spec.dims
            )
    return config


# --- Answers ---------------------------------------------------------------------------------


def right(server: FakeTriton, request: Any, context: Any) -> Any:
    """Outputs of the contract's datatypes and shapes, all ones."""
    return answer_with(server, request, lambda name, array: array)


def status(code: grpc.StatusCode, text: str = "said the server") -> Answer:
    return lambda server, request, context: context.abort(code, text)


def hang(server: FakeTriton, request: Any, context: Any) -> Any:
    """Until the caller goes, or the server."""
    server.hold(context)
    return right(server, request, context)


def late(seconds: float) -> Answer:
    """The right answer, after some time."""

    def answer(server: FakeTriton, request: Any, context: Any) -> Any:
        server.hold(context, seconds)
        return right(server, request, context)

    return answer


def without(output: str) -> Answer:
    """One output is missing."""
    return changed(output, lambda array: None)


def changed(output: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Answer:
    """One output is another array; None leaves it out."""
    return lambda server, request, context: answer_with(
        server, request, lambda name, array: change(array) if name == output else array
    )


def edited(edit: Callable[[Any], object]) -> Answer:
    """The right answer, with its protobuf message changed in place."""

    def answer(server: FakeTriton, request: Any, context: Any) -> Any:
        response = right(server, request, context)
        edit(response)
        return response

    return answer


def answer_with(
    server: FakeTriton,
    request: Any,
    change: Callable[[str, np.ndarray], np.ndarray | None],
) -> Any:
    """The right answer with `change` made to each array; what lies in shared memory goes there."""
    model = next(model for model in MODELS if model.name == request.model_name)
    specs = {spec.name: spec for spec in (*model.inputs, *model.outputs)}
    sizes: dict[int | str, int] = {"H": 60, "W": 90, "C": 3, "Q": REGIONS, "N": REGIONS}
    for tensor in request.inputs:
        sizes.update(zip(specs[tensor.name].shape, tensor.shape, strict=True))
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    for wanted in request.outputs:
        spec = specs[wanted.name]
        shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
        array = change(spec.name, np.ones(shape, spec.dtype))
        if array is None:
            continue
        datatype = TRITON_DATATYPES[array.dtype]
        response.outputs.add(name=spec.name, datatype=datatype, shape=array.shape)
        place = wanted.parameters
        if "shared_memory_region" in place:
            region = server.regions[place["shared_memory_region"].string_param]
            offset = place["shared_memory_offset"].int64_param
            region[offset : offset + array.nbytes] = array.tobytes()
            response.raw_output_contents.append(b"")
        else:
            response.raw_output_contents.append(array.tobytes())
    return response


TRITON_DATATYPES = {
    np.dtype(dtype): name
    for dtype, name in (
        (np.bool_, "BOOL"),
        (np.uint8, "UINT8"),
        (np.int32, "INT32"),
        (np.int64, "INT64"),
        (np.float16, "FP16"),
        (np.float32, "FP32"),
        (np.float64, "FP64"),
    )
}


# --- What lies between -----------------------------------------------------------------------


class Wire:
    """A TCP connection's way to a server, that can be cut or go silent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._speaks = threading.Event()
        self._speaks.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._speaks.set()
        self.cut()

    def cut(self) -> None:
        """Close the connections that there are."""
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def fall_silent(self) -> None:
        """Nothing gets through any more, in no direction, and nobody is told."""
        self._speaks.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self._speaks.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
