"""What a server is: its version, its models, and what they accept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tritonclient.grpc import model_config_pb2

from sam_refine.contract import (
    NETWORKS_SHA256,
    SAM_EMBED,
    SAM_REFINE,
    ArrayLibrary,
    InvalidRequestError,
    Limits,
    ModelSpec,
    TensorSpec,
)
from sam_refine_client.errors import ProtocolError

CALLED: Final = (SAM_REFINE, SAM_EMBED)
"""The models that clients call; these call the others."""


class ModelState(str, Enum):
    """What a server says about a model."""

    READY = "ready"
    LOADING = "loading"
    UNLOADING = "unloading"
    UNAVAILABLE = "unavailable"
    """It failed to load, or was never asked to."""
    MISSING = "missing"
    """The server's repository has no such model."""


@dataclass(frozen=True)
class ModelInfo:
    """One model of a server. `backend` and all that follows is known only if it is ready."""

    name: str
    state: ModelState
    reason: str = ""
    """Why it is not ready, if the server says."""
    versions: tuple[str, ...] = ()
    """The versions that are ready."""
    backend: str | None = None
    """What runs it: "python", "onnxruntime", "ensemble"."""
    device: str | None = None
    """"CPU" or "GPU"; "auto" is a GPU if there is one. None for an ensemble."""
    instances: int | None = None
    """How many requests it works on at a time; None for an ensemble."""
    max_batch_size: int | None = None
    """How many requests run together in one instance; 0 if requests are not batched."""


@dataclass(frozen=True)
class ServerInfo:
    """A server, or what takes its place in local mode."""

    name: str
    """"triton"; "onnxruntime" in local mode."""
    version: str
    models: tuple[ModelInfo, ...]
    """Those of sam-refine; clients call the first two. In local mode these are the networks."""
    limits: Limits | None
    """The limits of requests; None if `sam_refine` is not ready."""
    array_library: ArrayLibrary | None
    """What computes between the networks; None if `sam_refine` is not ready."""
    differences: tuple[str, ...]
    """Where the models' tensors differ from those that this client knows, one sentence each."""
    networks_sha256: str | None = None
    """One checksum of all graphs of the server's repository; None if `sam_refine` is not ready, or
    an earlier version exported it. None in local mode, where the model card tells."""


def model_info(name: str, entries: Iterable[Any], config: Any | None) -> ModelInfo:
    """From the repository index's entries, one for each version, and the config if it is ready."""
    entries = [entry for entry in entries if entry.name == name]
    ready = tuple(entry.version for entry in entries if entry.state == "READY")
    if config is not None and ready:
        groups = config.instance_group
        return ModelInfo(
            name,
            ModelState.READY,
            versions=ready,
            backend=config.backend or config.platform,
            device=_device(groups) if groups else None,
            instances=sum(group.count * max(1, len(group.gpus)) for group in groups) or None,
            max_batch_size=config.max_batch_size,
        )
    if not entries:
        return ModelInfo(name, ModelState.MISSING)
    last = entries[-1]
    states = {state.value for state in ModelState}
    state = ModelState(last.state.lower() if last.state.lower() in states else "unavailable")
    return ModelInfo(name, state, last.reason, ready)


def _device(groups: Iterable[Any]) -> str:
    kinds = {model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind) for group in groups}
    names = {"KIND_CPU": "CPU", "KIND_GPU": "GPU", "KIND_MODEL": "auto", "KIND_AUTO": "auto"}
    return ", ".join(sorted(names[kind] for kind in kinds))


def deployment(config: Any) -> tuple[Limits, ArrayLibrary]:
    """The limits and the array library of `sam_refine`'s config. Raises `ProtocolError`."""
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    try:
        return Limits.from_parameters(parameters), ArrayLibrary.from_parameters(parameters)
    except InvalidRequestError as error:
        raise ProtocolError(str(error), model=config.name) from error


def networks_sha256(config: Any) -> str | None:
    """What `sam_refine`'s config says of the networks."""
    if NETWORKS_SHA256 not in config.parameters:
        return None
    return config.parameters[NETWORKS_SHA256].string_value or None


def agreed_networks(infos: Mapping[str, ServerInfo]) -> str | None:
    """The `networks_sha256` of servers, by their addresses; None where none says it.

    Raises `InvalidRequestError` where they do not say the same.
    """
    said = {name: info.networks_sha256 for name, info in infos.items()}
    if len({*said.values()}) > 1:
        listed = ", ".join(f"{name} has {checksum}" for name, checksum in said.items())
        raise InvalidRequestError(f"the servers must serve the same networks: {listed}")
    return next(iter(said.values()), None)


def differences(configs: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the models that clients call lack a tensor of the contract, or have another."""
    return tuple(
        difference
        for model in CALLED
        if model.name in configs
        for difference in _differences(model, configs[model.name])
    )


def _differences(model: ModelSpec, config: Any) -> Iterator[str]:
    for kind, specs, found in (
        ("input", model.inputs, config.input),
        ("output", model.outputs, config.output),
    ):
        by_name = {tensor.name: tensor for tensor in found}
        for spec in specs:
            if spec.name not in by_name:
                yield f"{model.name} has no {kind} {spec.name}"
                continue
            tensor = by_name[spec.name]
            datatype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
            if (datatype, tuple(tensor.dims)) != (_datatype(spec), spec.dims):
                yield (
                    f"{model.name}'s {kind} {spec.name} is {datatype} {tuple(tensor.dims)}, "
                    f"this client knows {_datatype(spec)} {spec.dims}"
                )


def _datatype(spec: TensorSpec) -> str:
    """The datatype as a config writes it."""
    return "STRING" if spec.datatype == "BYTES" else spec.datatype
