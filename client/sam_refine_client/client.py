"""A synchronous gRPC client of `sam_refine`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from sam_refine.contract import (
    IMAGE_ID,
    MAX_MESSAGE_BYTES,
    SAM_REFINE,
    STAGES,
    InvalidRequestError,
    RefineOptions,
    TensorSpec,
)
from sam_refine_client.errors import error_of
from sam_refine_client.result import RefineResult, Region

ImageLike = npt.NDArray[np.uint8] | Image.Image | bytes | str | Path
Output = Literal["labels", "coarse_labels", "logits", "regions"]

REGION_TENSORS: Final = (
    "REGION_CLASSES",
    "REGION_BOXES",
    "REGION_SCORES",
    "REGION_IOUS",
    "REGION_KEPT",
)


class RefineClient:
    """Calls a server; one connection, safe to use from several threads.

    with RefineClient("127.0.0.1:8001") as client:
        result = client.refine("photo.jpg", logits=scores)
    """

    def __init__(self, url: str = "127.0.0.1:8001") -> None:
        """`url` is host:port of the server's gRPC endpoint. Nothing is sent yet."""
        self._connection = triton.InferenceServerClient(url)

    def __enter__(self) -> RefineClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def refine(
        self,
        image: ImageLike,
        *,
        logits: npt.NDArray[np.floating[Any]],
        labels: npt.NDArray[np.integer[Any]] | None = None,
        options: RefineOptions | None = None,
        outputs: Collection[Output] = ("labels", "regions"),
        image_id: str | None = None,
        timeout_s: float | None = None,
    ) -> RefineResult:
        """Refine one coarse map.

        `image` is RGB (H, W, 3) uint8, a PIL image, or a JPEG or PNG as bytes or path. `logits` are
        class scores (C, h, w) at any resolution up to the image's; float16 is sent as it is, any
        other dtype as float32. `labels` (H, W) are the coarse map where it is not their argmax.
        Only what `outputs` names is computed and sent.

        The server keeps embeddings: the same image again is not encoded again. `image_id`, your
        own name of the image, stands for its pixels there, for stills of a camera that differ in
        noise only.

        Raises `InvalidRequestError` where a rule is broken (`RejectedError` where the server found
        it), `UnreachableError`, `DeadlineError` after `timeout_s` seconds, `ServerError`.
        """
        options = options or RefineOptions()
        tensors = {**_image_tensor(image), **_logits_tensor(logits)}
        if labels is not None:
            tensors["LABELS"] = _labels_tensor(labels)
        small = len(logits) <= 256 and 0 <= (options.ignore_label or 0) <= 255
        names = [name for output in outputs for name in _output_tensors(output, small=small)]
        parameters = options.to_parameters()
        if image_id is not None:
            parameters[IMAGE_ID] = image_id
        return _result(self._infer(tensors, [*names, "STAGE_TIMES_MS"], parameters, timeout_s))

    def _infer(
        self,
        tensors: dict[str, npt.NDArray[Any]],
        outputs: list[str],
        parameters: dict[str, str | int | float | bool],
        timeout_s: float | None,
    ) -> dict[str, npt.NDArray[Any]]:
        specs = {spec.name: spec for spec in SAM_REFINE.inputs}
        try:
            response = self._connection.infer(
                SAM_REFINE.name,
                [_infer_input(specs[name], tensor) for name, tensor in tensors.items()],
                outputs=[triton.InferRequestedOutput(name) for name in outputs],
                parameters=parameters,
                client_timeout=timeout_s,
            )
        except InferenceServerException as error:
            raise error_of(error.status(), error.message()) from error
        return {name: response.as_numpy(name) for name in outputs}


def _image_tensor(image: ImageLike) -> dict[str, npt.NDArray[Any]]:
    if isinstance(image, str | Path):
        image = Path(image).read_bytes()
    if isinstance(image, bytes):
        return {"ENCODED_IMAGE": np.array([image], np.object_)}
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise InvalidRequestError(
                f"image must have 8 bits per channel, got the mode {image.mode}"
            )
        return {"IMAGE": np.asarray(image.convert("RGB"))}
    if not isinstance(image, np.ndarray):
        raise InvalidRequestError(
            f"image must be an array, a PIL image, bytes or a path, got {type(image).__name__}"
        )
    if image.dtype != np.uint8:
        raise InvalidRequestError(f"image must be uint8, got {image.dtype}")
    return {"IMAGE": np.ascontiguousarray(image)}


def _logits_tensor(logits: npt.NDArray[np.floating[Any]]) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fiu":
        found = getattr(logits, "dtype", type(logits).__name__)
        raise InvalidRequestError(f"logits must be an array of numbers, got {found}")
    if logits.ndim != 3:
        raise InvalidRequestError(f"logits must have shape (C, h, w), got {logits.shape}")
    name, dtype = (
        ("LOGITS_FP16", np.float16) if logits.dtype == np.float16 else ("LOGITS", np.float32)
    )
    return {name: np.ascontiguousarray(logits, dtype)}


def _labels_tensor(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        found = getattr(labels, "dtype", type(labels).__name__)
        raise InvalidRequestError(f"labels must be an array of integers, got {found}")
    limits = np.iinfo(np.int32)
    if labels.size and not limits.min <= labels.min() <= labels.max() <= limits.max:
        raise InvalidRequestError(f"labels must fit int32, got {labels.min()} to {labels.max()}")
    return np.ascontiguousarray(labels, np.int32)


def _output_tensors(output: Output, *, small: bool) -> tuple[str, ...]:
    """The tensors of an output; labels take one byte per pixel where every one is `small`."""
    suffix = "_UINT8" if small else ""
    tensors = {
        "labels": (f"REFINED_LABELS{suffix}",),
        "coarse_labels": (f"COARSE_LABELS{suffix}",),
        "logits": ("REFINED_LOGITS",),
        "regions": REGION_TENSORS,
    }
    if output not in tensors:
        raise InvalidRequestError(f"outputs must be among {', '.join(tensors)}, got {output!r}")
    return tensors[output]


def _infer_input(spec: TensorSpec, tensor: npt.NDArray[Any]) -> triton.InferInput:
    if tensor.nbytes > MAX_MESSAGE_BYTES:
        raise InvalidRequestError(
            f"{spec.name} must fit one message of {MAX_MESSAGE_BYTES} bytes, has {tensor.nbytes}"
        )
    infer_input = triton.InferInput(spec.name, list(tensor.shape), spec.datatype)
    infer_input.set_data_from_numpy(tensor)
    return infer_input


def _result(tensors: dict[str, npt.NDArray[Any]]) -> RefineResult:
    return RefineResult(
        labels=_labels(tensors, "REFINED_LABELS"),
        coarse_labels=_labels(tensors, "COARSE_LABELS"),
        logits=tensors.get("REFINED_LOGITS"),
        regions=_regions(tensors) if "REGION_KEPT" in tensors else None,
        stage_times_ms=dict(zip(STAGES, tensors["STAGE_TIMES_MS"].tolist(), strict=True)),
    )


def _labels(tensors: dict[str, npt.NDArray[Any]], name: str) -> npt.NDArray[np.int32] | None:
    labels = tensors.get(f"{name}_UINT8", tensors.get(name))
    return None if labels is None else labels.astype(np.int32, copy=False)


def _regions(tensors: dict[str, npt.NDArray[Any]]) -> tuple[Region, ...]:
    columns = (tensors[name].tolist() for name in REGION_TENSORS)
    return tuple(
        Region(class_id, tuple(box), score, predicted_iou, kept)
        for class_id, box, score, predicted_iou, kept in zip(*columns, strict=True)
    )
