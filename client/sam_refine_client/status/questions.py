"""Questions that Triton itself answers. None is asked again: the state right now is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc.service_pb2 import RepositoryIndexResponse
from tritonclient.utils import InferenceServerException

from sam_refine.contract import MODELS, SAM_MASK_JUDGE, SAM_REFINE
from sam_refine_client.deadline import remaining_s
from sam_refine_client.errors import ForbiddenError, ProtocolError, RefineError, error_of
from sam_refine_client.status.health import Readiness, problem
from sam_refine_client.status.info import (
    ModelInfo,
    ModelState,
    ServerInfo,
    deployment,
    differences,
    model_info,
    networks_sha256,
)
from sam_refine_client.steps.steps import Remote, Steps


@dataclass(frozen=True)
class Questions:
    """What they are asked with: headers, and the deadline as a time of `time.monotonic`."""

    headers: Mapping[str, str]
    deadline_s: float | None
    explained: Callable[[RefineError], Steps[RefineError]]
    """Of an error, that which says more of what answers there."""

    def info(self) -> Steps[ServerInfo]:
        """What the server is. Raises `RefineError`."""
        server = yield from self._ask("get_server_metadata")
        entries = yield from self._entries()
        ready = {entry.name for entry in entries if entry.state == "READY"}
        configs = {}
        for spec in MODELS:
            if spec.name in ready:
                answer = yield from self._ask("get_model_config", model_name=spec.name)
                configs[spec.name] = answer.config
        config = configs.get(SAM_REFINE.name)
        limits, array_library = (None, None) if config is None else deployment(config)
        return ServerInfo(
            server.name,
            server.version,
            tuple(model_info(spec.name, entries, configs.get(spec.name)) for spec in MODELS),
            limits,
            array_library,
            differences(configs),
            None if config is None else networks_sha256(config),
        )

    def readiness(self) -> Steps[Readiness]:
        """Whether the server says that it and its models are ready; raises nothing."""
        try:
            is_live = yield from self._ask("is_server_live")
        except ProtocolError as error:
            is_known = error.advice != ProtocolError.advice
            advice = error.advice if is_known else "is this its gRPC port?"
            text = f"what answers is not a Triton server: {error.message}; {advice}"
            return Readiness(False, False, {}, (text,))
        except RefineError as error:
            return Readiness(False, False, {}, (problem("no answer", error),))
        if not is_live:
            text = "the server says that it is not live; its log says why"
            return Readiness(False, False, {}, (text,))
        models: dict[str, bool] = {}
        is_ready = False
        try:
            is_ready = yield from self._ask("is_server_ready")
            for spec in MODELS:
                models[spec.name] = yield from self._ask("is_model_ready", model_name=spec.name)
            if (yield from self._ask("is_model_ready", model_name=SAM_MASK_JUDGE.name)):
                models[SAM_MASK_JUDGE.name] = True  # which not every server has
        except RefineError as error:
            text = problem("the server does not say whether it is ready", error)
            return Readiness(True, is_ready, models, (text,))
        problems = yield from self._problems_of(models)
        if not is_ready and not problems:
            text = (
                "the server is not ready although all models of sam-refine are: another of its "
                "models is not ready, or it is about to end; its log says why"
            )
            problems = (text,)
        return Readiness(True, is_ready, models, problems)

    def _entries(self) -> Steps[list[Any]]:
        """Of the repository's index, which has a key where models can be loaded; else made up."""
        try:
            index = yield from self._ask("get_model_repository_index")
            return list(index.models)
        except ForbiddenError:
            pass
        entries = []
        for spec in MODELS:
            state, versions = "UNAVAILABLE", [""]
            if (yield from self._ask("is_model_ready", model_name=spec.name)):
                metadata = yield from self._ask("get_model_metadata", model_name=spec.name)
                state, versions = "READY", metadata.versions
            entries += [
                RepositoryIndexResponse.ModelIndex(name=spec.name, version=version, state=state)
                for version in versions
            ]
        return entries

    def _problems_of(self, models: Mapping[str, bool]) -> Steps[tuple[str, ...]]:
        if all(models.values()):
            return ()
        try:
            index = yield from self._ask("get_model_repository_index")
        except RefineError:  # some deployments restrict it: then the reasons stay unknown
            return tuple(
                f"{name} is not ready; the server's log says why"
                for name, is_ready in models.items()
                if not is_ready
            )
        return tuple(
            _not_ready(model_info(name, index.models, None))
            for name, is_ready in models.items()
            if not is_ready
        )

    def _ask(self, method: str, **arguments: object) -> Steps[Any]:
        asked = {"headers": dict(self.headers), "client_timeout": remaining_s(self.deadline_s)}
        try:
            answer = yield Remote(method, {**arguments, **asked})
        except InferenceServerException as raised:
            error = error_of(raised.status(), raised.message())
            raise (yield from self.explained(error)) from raised
        return answer


def _not_ready(model: ModelInfo) -> str:
    if model.state is ModelState.MISSING:
        return f"{model.name} is not there; serve what `sam-refine export` wrote"
    reason = f" ({' '.join(model.reason.split())})" if model.reason else ""
    if model.state in (ModelState.LOADING, ModelState.UNLOADING):
        return f"{model.name} is {model.state.value}{reason}; ask again later"
    return f"{model.name} is not ready{reason}; the server's log says why"
